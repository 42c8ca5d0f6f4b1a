-- The partitions of a rollup; the first hour or day of event time that each
-- counts; and when the first play came in that the log has.
SELECT
    {{.Key}} AS partition,
    minIf(ts, dim = 'global') AS first,
    (SELECT min(at) FROM plays) AS logFirst
FROM {{.Name}}
GROUP BY partition
ORDER BY partition
