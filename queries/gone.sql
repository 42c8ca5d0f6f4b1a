-- Of sources that are not in the log any more, those that have merely expired:
-- the rollups keep for ever when the last play of each came in.
SELECT toUInt32(val) AS src
FROM rollup_day
WHERE dim = '_wm' AND val IN arrayMap(src -> toString(src), {sources:Array(UInt32)})
GROUP BY val
HAVING max(wmAt) < now64(3) - INTERVAL 89 DAY
