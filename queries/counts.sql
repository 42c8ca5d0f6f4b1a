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
{{template "watermarks"}}
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

SELECT 1 AS kind, p.val AS val, '' AS songId{{range $i, $w := .Windows}}, sum(p.n{{$i}}) AS n{{$i}}{{end}}
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
    SELECT p.val AS val, p.songId AS songId{{range $i, $w := .Windows}}, sum(p.n{{$i}}) AS n{{$i}}{{end}}
    FROM ({{template "plays in windows" .}}) AS p
    GROUP BY val, songId
{{end}}

{{define "plays in windows"}}
        SELECT val, songId{{range $i, $w := .Windows}}, plays * ({{template "days of" $i}}) AS n{{$i}}{{end}}
        FROM rollup_day
        WHERE dim = {dim:String} AND (false{{range $i, $w := .Windows}} OR {{template "days of" $i}}{{end}})
            {{- template "sample" .}}

        UNION ALL

        SELECT val, songId{{range $i, $w := .Windows}}, plays * ({{template "hours of" $i}}) AS n{{$i}}{{end}}
        FROM rollup_hour
        WHERE dim = {dim:String} AND (false{{range $i, $w := .Windows}} OR {{template "hours of" $i}}{{end}})
            {{- template "sample" .}}

        UNION ALL

        SELECT {{template "values" .}} AS val, songId{{range $i, $w := .Windows}}, toUInt64({{template "tail of" $i}}) AS n{{$i}}{{end}}
        FROM plays
        WHERE has(news, src) AND at >= since AND counted AND (false{{range $i, $w := .Windows}} OR {{template "tail of" $i}}{{end}})
            {{- template "sample" .}}

        UNION ALL

        SELECT {{template "values" .}} AS val, songId{{range $i, $w := .Windows}}, toUInt64({{template "edges of" $i}}) AS n{{$i}}{{end}}
        FROM plays
        WHERE at >= {atFrom:DateTime64(3, 'UTC')} AND counted AND (false{{range $i, $w := .Windows}} OR {{template "edges of" $i}}{{end}})
            {{- template "sample" .}}
{{end}}

{{/* The rollups' times are compared as what they are, DateTime: their ranges are
     of whole hours, or empty. As DateTime64 it takes several times as long. */}}
{{define "days of" -}}
    (ts >= {{template "second" (print "dayFrom" .)}} AND ts < {{template "second" (print "dayTo" .)}})
{{- end}}

{{define "hours of" -}}
    (ts >= {{template "second" (print "hourFrom" .)}} AND ts < {{template "second" (print "dayFrom" .)}}
         OR ts >= {{template "second" (print "dayTo" .)}} AND ts < {{template "second" (print "hourTo" .)}})
{{- end}}

{{define "second"}}toDateTime({{"{"}}{{.}}:DateTime64(3, 'UTC')}, 'UTC'){{end}}

{{define "edges of" -}}
    (ts >= {from{{.}}:DateTime64(3, 'UTC')} AND ts < {hourFrom{{.}}:DateTime64(3, 'UTC')}
         OR ts >= {hourTo{{.}}:DateTime64(3, 'UTC')} AND ts < {to{{.}}:DateTime64(3, 'UTC')})
{{- end}}

{{define "tail of" -}}
    (ts >= {hourFrom{{.}}:DateTime64(3, 'UTC')} AND ts < {hourTo{{.}}:DateTime64(3, 'UTC')}
         AND koff >= if(ts >= {dayFrom{{.}}:DateTime64(3, 'UTC')} AND ts < {dayTo{{.}}:DateTime64(3, 'UTC')}, dayDone[src], hourDone[src]))
{{- end}}

{{define "sample"}}
    {{- if .Sampled}}
            AND cityHash64(songId) % {sample:UInt32} = 0
    {{- end}}
{{- end}}
