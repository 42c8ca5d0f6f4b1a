-- The keys of one dimension whose plays in a rollup partition are not those of
-- the log, the first of them, and how many there are. Keys are many: what does
-- not fit into memory goes to disk.
WITH
{{template "range" .}}
SELECT val, songId, ts, sum(n) AS kept, sum(logN) AS counted, count() OVER () AS keys
FROM
(
    SELECT val, songId, ts, plays AS n, toUInt64(0) AS logN
    FROM {{.Name}}
    WHERE {{.Key}} = {partition:Date} AND dim = {dim:String}

    UNION ALL

    SELECT chart.2 AS val, songId, {{.Grain}}(ts) AS ts, toUInt64(0) AS n, toUInt64(1) AS logN
    FROM play_charts
    ARRAY JOIN charts AS chart
    WHERE {{template "counted"}} AND chart.1 = {dim:String}
)
GROUP BY val, songId, ts
HAVING kept != counted
ORDER BY val, songId, ts
LIMIT {limit:UInt32}
SETTINGS
    enable_shared_storage_snapshot_in_query = 1,
    max_bytes_before_external_group_by = 1000000000
