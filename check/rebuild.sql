-- Adds the next plays of a rollup partition to the table where it is rebuilt,
-- as rollup_fill adds them to the rollup: counts and watermark of each source
-- from one read of the log, from where this table has come to its target, at
-- most {cap} offsets of a source at a time.
INSERT INTO {{.Stage}} (dim, val, songId, ts, plays, wm, wmAt, {{.Key}})
WITH
    mapFromArrays({srcs:Array(UInt32)}, {targets:Array(UInt64)}) AS target,
    (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM {{.Name}} WHERE dim = '_wm' AND {{.Key}} < {partition:Date}) AS start,
    (SELECT maxMap(map(toUInt32OrZero(val), wmAt)) FROM {{.Name}} WHERE dim = '_wm' AND {{.Key}} < {partition:Date}) AS startAt,
    (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM {{.Stage}} WHERE dim = '_wm') AS built,
    (SELECT maxMap(map(toUInt32OrZero(val), wmAt)) FROM {{.Stage}} WHERE dim = '_wm') AS builtAt,
    mapKeys(mapFilter((src, next) -> next > greatest(start[src], built[src]), target)) AS moved,
    arrayFilter(src -> NOT mapContains(startAt, src) AND NOT mapContains(built, src), moved) AS fresh,
    (SELECT min(at) FROM plays WHERE src IN (SELECT arrayJoin(fresh))) AS freshAt,
    toDateTime64({partition:Date}, 3, 'UTC') - INTERVAL 1 DAY AS before,
    if(empty(moved), now64(3), arrayMin(src -> multiIf(
        mapContains(built, src), builtAt[src],
        mapContains(startAt, src), least(before, startAt[src]),
        least(before, freshAt)), moved)) AS since,
    (
        SELECT maxMap(map(src, oldest))
        FROM
        (
            SELECT src, min(koff) AS oldest
            FROM plays
            WHERE has(moved, src) AND at >= since AND koff >= greatest(start[src], built[src])
            GROUP BY src
        )
    ) AS first
SELECT
    row.1 AS dim,
    row.2 AS val,
    row.3 AS songId,
    row.4 AS ts,
    sum(row.5) AS plays,
    max(row.6) AS wm,
    max(row.7) AS wmAt,
    {partition:Date} AS {{.Key}}
FROM
(
    SELECT
        {{.Grain}}(ts) AS start_of,
        arrayConcat(
            arrayMap(chart -> (chart.1, chart.2, songId, start_of, 1, 0, toDateTime64(0, 3, 'UTC')), charts),
            [('_wm', toString(src), '', toDateTime(0, 'UTC'), 0, koff + 1, at)]) AS rows
    FROM play_charts
    WHERE has(moved, src) AND at >= since AND koff >= greatest(start[src], built[src])
      AND koff < least(first[src] + {cap:UInt64}, target[src])
      AND koff < arrayMax(mapValues(target)) -- for the primary key
)
ARRAY JOIN rows AS row
GROUP BY dim, val, songId, ts
SETTINGS enable_shared_storage_snapshot_in_query = 1
