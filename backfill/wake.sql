-- Tells a rollup that the source of backfills has had nothing for long: its tail
-- is looked for from the time of its last play on, which without this may be
-- months ago, or 1970. Its count stays as it is.
INSERT INTO {{.Rollup}} (dim, val, songId, ts, plays, wm, wmAt, {{.Key}})
SELECT
    '_wm', toString({source:UInt32}), '', toDateTime(0, 'UTC'), 0,
    (SELECT maxOrDefault(wm) FROM {{.Rollup}} WHERE dim = '_wm' AND val = toString({source:UInt32})),
    (SELECT max(at) FROM plays),
    {{.Partition}}(now())
