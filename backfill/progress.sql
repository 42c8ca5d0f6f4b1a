-- Where the source of backfills ends in the log, and how far the rollups have
-- counted it.
SELECT
    ifNull((SELECT max(koff) + 1 FROM plays WHERE src = {source:UInt32} GROUP BY src), 0) AS head,
    (SELECT maxOrDefault(wm) FROM rollup_hour WHERE dim = '_wm' AND val = toString({source:UInt32})) AS hour,
    (SELECT maxOrDefault(wm) FROM rollup_day WHERE dim = '_wm' AND val = toString({source:UInt32})) AS day
