-- The plays of every song and value of one dimension, in several windows at
-- once, of one prefix of the log. Composed as in charts.sql, except that each
-- row read adds to the windows of whose days, hours, tail or edges it is: the
-- rollups are read once, however many the windows.
--
-- Of values with very many songs, those that come to nothing in any window are
-- left out: a song is given when in some window it has more plays than the
-- value's floor there.
--
-- The kinds of rows are those of countsRow in log.go.
WITH
{{template "watermarks" .Plan}}
{{- if .Thinned}},
    -- Floors are guessed from a sample of the songs: any number would be right.
    (
        SELECT groupArray((val, floors))
        FROM
        (
            SELECT
                val,
                [
                {{- range $i, $w := .Windows}}{{if $i}},{{end}}
                    arrayPartialReverseSort({kept:UInt32} + 1, groupArray(n{{$i}}))[{kept:UInt32} + 1]
                {{- end}}
                ] AS floors
            FROM ({{template "songs in windows" .Sample}})
            GROUP BY val
            HAVING count() > {many:UInt32}
        )
    ) AS thinned
{{- end}}
SELECT 0 AS kind, val, songId{{range $i, $w := .Windows}}, n{{$i}}{{end}}
FROM ({{template "songs in windows" .}}) AS songs
{{- if .Thinned}}
LEFT JOIN
(
    SELECT thin.1 AS val{{range $i, $w := .Windows}}, thin.2[{{$i}} + 1] AS floor{{$i}}{{end}}
    FROM (SELECT arrayJoin(thinned) AS thin)
) AS floors USING val
WHERE false{{range $i, $w := .Windows}} OR n{{$i}} > floor{{$i}}{{end}}

UNION ALL

SELECT 2 AS kind, thin.1 AS val, '' AS songId{{range $i, $w := .Windows}}, thin.2[{{$i}} + 1] AS n{{$i}}{{end}}
FROM (SELECT arrayJoin(thinned) AS thin)
{{- end}}

UNION ALL

SELECT 1 AS kind, p.val AS val, '' AS songId{{range $i, $w := .Windows}}, toUInt64(sum(p.n{{$i}})) AS n{{$i}}{{end}}
FROM ({{template "plays in windows" .}}) AS p
GROUP BY val

UNION ALL

SELECT mark.1 AS kind, toString(src) AS val, '' AS songId, mark.2 AS n0{{range $i, $w := .Windows}}{{if $i}}, toUInt64(0) AS n{{$i}}{{end}}{{end}}
FROM
(
    SELECT src, arrayJoin([(3, next), (4, heads[src]), (5, toUInt64(behind))]) AS mark
    FROM ({{template "prefix"}})
)
SETTINGS enable_shared_storage_snapshot_in_query = 1

{{define "songs in windows"}}
    SELECT p.val AS val, p.songId AS songId{{range $i, $w := .Windows}}, toUInt64(sum(p.n{{$i}})) AS n{{$i}}{{end}}
    FROM ({{template "plays in windows" .}}) AS p
    GROUP BY val, songId
    HAVING false{{range $i, $w := .Windows}} OR n{{$i}} > 0{{end}}
{{end}}

{{define "plays in windows"}}
        SELECT val, songId{{range $i, $w := .Windows}}, toInt64(plays * ({{template "days" $i}})) AS n{{$i}}{{end}}
        FROM rollup_day
        WHERE dim = {dim:String} AND (false{{range $i, $w := .Windows}} OR {{template "days" $i}}{{end}})
            {{- template "sample" .}}

        UNION ALL

        SELECT val, songId{{range $i, $w := .Windows}}, toInt64(plays * ({{template "hours" $i}})) AS n{{$i}}{{end}}
        FROM rollup_hour
        WHERE dim = {dim:String} AND (false{{range $i, $w := .Windows}} OR {{template "hours" $i}}{{end}})
            {{- template "sample" .}}

        UNION ALL

        SELECT {{template "values" .}} AS val, songId{{range $i, $w := .Windows}}, toInt64({{template "tail" $i}}) AS n{{$i}}{{end}}
        FROM plays
        WHERE has(news, src) AND at >= since AND counted AND (false{{range $i, $w := .Windows}} OR {{template "tail" $i}}{{end}})
            {{- template "sample" .}}

        UNION ALL

        SELECT {{template "values" .}} AS val, songId{{range $i, $w := .Windows}}, {{template "edge" $i}} AS n{{$i}}{{end}}
        FROM plays
        WHERE counted AND (false{{range $i, $w := .Windows}} OR {{template "edges" $i}}{{end}})
            {{- template "sample" .}}
{{end}}

{{define "sample"}}
    {{- if .Sampled}}
            AND cityHash64(songId) % {sample:UInt32} = 0
    {{- end}}
{{- end}}
