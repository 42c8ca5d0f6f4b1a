-- The values of one dimension that have been played, or, of genres, that songs
-- have; the first {limit} in bytes.
{{- if eq . "genre"}}
SELECT DISTINCT arrayJoin(genres) AS val
FROM songs FINAL
{{- else}}
SELECT DISTINCT val
FROM rollup_day
WHERE dim = {dim:String}
{{- end}}
ORDER BY val
LIMIT {limit:UInt32}
