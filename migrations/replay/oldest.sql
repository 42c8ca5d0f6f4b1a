-- The first days of the rollups and of the log; 1970 when they are empty.
SELECT
    (SELECT min(ts) FROM rollup_day WHERE dim = 'global') AS counted,
    (SELECT toStartOfDay(min(ts)) FROM plays) AS kept
