-- The plays of every song and value of one dimension, in several windows at
-- once, of one prefix of the log. Composed as in charts.sql, except that each
-- row adds to the windows that hold it: those whose days, hours or edges it is
-- of. One row per value: its songs are packed into one string, since reading
-- millions of rows one by one costs the client more than counting them costs
-- here. Rows with next > 0 carry the log's watermark.
--
-- Of values with very many songs, those that come to nothing in any window are
-- left out: a song is given when it has more plays than the floor of a window.
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
SELECT val, totals, floors, songs, toUInt32(0) AS src, toUInt64(0) AS next, toUInt64(0) AS head, false AS behind
FROM
(
    SELECT
        val,
        [{{range $i, $w := .Windows}}{{if $i}}, {{end}}sum(n{{$i}}){{end}}] AS totals,
        {{if .Thinned}}any(thin.floors){{else}}CAST([], 'Array(UInt64)'){{end}} AS floors,
        groupConcatIf(
            formatRow('RowBinary', songId{{range $i, $w := .Windows}}, n{{$i}}{{end}}),
            {{- if .Thinned}}
            empty(thin.floors){{range $i, $w := .Windows}} OR n{{$i}} > thin.floors[{{$i}} + 1]{{end}}
            {{- else}}
            true
            {{- end}}) AS songs
    FROM ({{template "songs in windows" .}}) AS counts
    {{- if .Thinned}}
    LEFT JOIN (SELECT many.1 AS val, many.2 AS floors FROM (SELECT arrayJoin(thinned) AS many)) AS thin USING val
    {{- end}}
    GROUP BY val
)

UNION ALL

SELECT '' AS val, [] AS totals, [] AS floors, '' AS songs, src, next, heads[src] AS head, behind
FROM ({{template "prefix"}})
SETTINGS enable_shared_storage_snapshot_in_query = 1

{{define "songs in windows"}}
    SELECT val, songId{{range $i, $w := .Windows}}, sum(n{{$i}}) AS n{{$i}}{{end}}
    FROM
    (
        SELECT val, songId
            {{- range $i, $w := .Windows}},
            sumIf(plays, ts >= {dayFrom{{$i}}:DateTime64(3, 'UTC')} AND ts < {dayTo{{$i}}:DateTime64(3, 'UTC')}) AS n{{$i}}
            {{- end}}
        FROM rollup_day
        WHERE dim = {dim:String} AND (false
            {{- range $i, $w := .Windows}}
            OR ts >= {dayFrom{{$i}}:DateTime64(3, 'UTC')} AND ts < {dayTo{{$i}}:DateTime64(3, 'UTC')}
            {{- end}})
            {{- template "sample" .}}
        GROUP BY val, songId

        UNION ALL

        SELECT val, songId
            {{- range $i, $w := .Windows}},
            sumIf(plays, {{template "hours of" $i}}) AS n{{$i}}
            {{- end}}
        FROM rollup_hour
        WHERE dim = {dim:String} AND (false
            {{- range $i, $w := .Windows}}
            OR {{template "hours of" $i}}
            {{- end}})
            {{- template "sample" .}}
        GROUP BY val, songId

        UNION ALL

        SELECT {{template "values" .}} AS val, songId
            {{- range $i, $w := .Windows}},
            countIf({{template "tail of" $i}}) AS n{{$i}}
            {{- end}}
        FROM plays
        WHERE has(news, src) AND at >= since AND counted AND (false
            {{- range $i, $w := .Windows}}
            OR {{template "tail of" $i}}
            {{- end}})
            {{- template "sample" .}}
        GROUP BY val, songId

        UNION ALL

        SELECT {{template "values" .}} AS val, songId
            {{- range $i, $w := .Windows}},
            countIf({{template "edges of" $i}}) AS n{{$i}}
            {{- end}}
        FROM plays
        WHERE at >= {atFrom:DateTime64(3, 'UTC')} AND counted AND (false
            {{- range $i, $w := .Windows}}
            OR {{template "edges of" $i}}
            {{- end}})
            {{- template "sample" .}}
        GROUP BY val, songId
    )
    GROUP BY val, songId
{{end}}

{{define "hours of" -}}
    (ts >= {hourFrom{{.}}:DateTime64(3, 'UTC')} AND ts < {dayFrom{{.}}:DateTime64(3, 'UTC')}
             OR ts >= {dayTo{{.}}:DateTime64(3, 'UTC')} AND ts < {hourTo{{.}}:DateTime64(3, 'UTC')})
{{- end}}

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
