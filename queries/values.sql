-- The values of one dimension that have been played, or, of genres, that songs
-- have; the first {limit} in bytes.
{{- if eq . "genre"}}
SELECT DISTINCT arrayJoin(genres) AS val
FROM songs FINAL
ORDER BY val
LIMIT {limit:UInt32}
{{- else}}
SELECT val
FROM rollup_day
WHERE dim = {dim:String}
GROUP BY val
ORDER BY val
LIMIT {limit:UInt32}
-- In the order of the key a value is one run of rows, which is skipped at once
-- instead of being looked up row by row.
SETTINGS optimize_aggregation_in_order = 1
{{- end}}
