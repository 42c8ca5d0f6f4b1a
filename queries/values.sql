-- The values of one dimension that have been played, or, of genres, that songs
-- have; the first {limit} in bytes.
{{- if eq . "genre"}}
SELECT DISTINCT arrayJoin(genres) AS val
FROM songs FINAL
ORDER BY val
LIMIT {limit:UInt32}
{{- else}}
-- From the projection of rollup_day that has each value once a part.
SELECT val
FROM rollup_day
WHERE dim = {dim:String}
GROUP BY val
ORDER BY val
LIMIT {limit:UInt32}
{{- end}}
