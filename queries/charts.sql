-- The exact top entries of every value of one dimension, in one statement: for
-- each value the first {k} songs and the total. Composed as in chart.sql. Rows
-- with songId '' carry the log's watermark.
--
-- Genres are read off the counts per song, since a song's genres are the
-- catalog's to say.
WITH
{{template "watermarks" .Plan}}
SELECT val, songId, plays, total, toUInt32(0) AS src, toUInt64(0) AS next, false AS behind
FROM
(
    SELECT val, songId, plays, sum(plays) OVER (PARTITION BY val) AS total
    FROM
    (
        {{- if .Genre}}
        SELECT arrayJoin(dictGetOrDefault(song_catalog, 'genres', songId, emptyArrayString())) AS val, songId, plays
        FROM ({{template "counts" .}})
        {{- else}}
        {{template "counts" .}}
        {{- end}}
    )
    ORDER BY val, plays DESC, songId DESC
    LIMIT {k:UInt32} BY val
)

UNION ALL

SELECT '' AS val, '' AS songId, 0 AS plays, 0 AS total, src, next, behind
FROM ({{template "prefix"}})
SETTINGS enable_shared_storage_snapshot_in_query = 1

{{define "counts"}}
    SELECT val, songId, toUInt64(sum(n)) AS plays
    FROM
    (
    {{- range $i, $grain := .Plan.Grains}}
        {{- if $i}}

        UNION ALL
        {{end}}
        {{- if eq $grain "days"}}
        SELECT val, songId, toInt64(sum(plays)) AS n
        FROM rollup_day
        WHERE dim = {dim:String} AND {{template "days" ""}}
        GROUP BY val, songId
        {{- else if eq $grain "hours"}}
        SELECT val, songId, toInt64(sum(plays)) AS n
        FROM rollup_hour
        WHERE dim = {dim:String} AND {{template "hours" ""}}
        GROUP BY val, songId
        {{- else if eq $grain "tail"}}
        SELECT {{template "values" $}} AS val, songId, toInt64(count()) AS n
        FROM plays
        WHERE {{template "tail" ""}} AND counted
        GROUP BY val, songId
        {{- else}}
        SELECT {{template "values" $}} AS val, songId, sum({{template "edge" ""}}) AS n
        FROM plays
        WHERE {{template "edges" ""}} AND counted
        GROUP BY val, songId
        {{- end}}
    {{- end}}
    )
    GROUP BY val, songId
    HAVING plays > 0
{{end}}

{{define "values"}}
    {{- if eq .Dim "global"}} ''
    {{- else if eq .Dim "region"}} arrayJoin(arrayDistinct(arrayFilter(v -> v != '', [toString(country), toString(region)])))
    {{- else if eq .Dim "segment"}} arrayJoin(arrayMap(v -> toString(v), segments))
    {{- else if eq .Dim "device"}} arrayJoin(arrayFilter(v -> v != '', [toString(device)]))
    {{- end}}
{{- end}}
