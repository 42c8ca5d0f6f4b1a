-- One song's plays in every step of a span that has any; steps are counted from
-- {from}. Composed as in chart.sql, except that the plan has no days when steps
-- are hours. Rows of step -1 carry the log's watermark.
WITH
{{template "watermarks" .Plan}}
SELECT step, toUInt64(sum(n)) AS plays, toUInt32(0) AS src, toUInt64(0) AS next, false AS behind
FROM
(
    {{- range $i, $grain := .Plan.Grains}}
    {{- if $i}}

    UNION ALL
    {{end}}
    {{- if eq $grain "days"}}
    SELECT {{template "step"}} AS step, toInt64(sum(plays)) AS n
    FROM rollup_day
    WHERE dim = {dim:String} AND val = {val:String} AND songId = {song:String} AND {{template "days" ""}} {{template "songs" $}}
    GROUP BY step
    {{- else if eq $grain "hours"}}
    SELECT {{template "step"}} AS step, toInt64(sum(plays)) AS n
    FROM rollup_hour
    WHERE dim = {dim:String} AND val = {val:String} AND songId = {song:String} AND {{template "hours" ""}} {{template "songs" $}}
    GROUP BY step
    {{- else if eq $grain "tail"}}
    SELECT {{template "step"}} AS step, toInt64(count()) AS n
    FROM plays
    WHERE songId = {song:String} AND {{template "tail" ""}} {{template "terms" $}} {{template "songs" $}}
    GROUP BY step
    {{- else}}
    SELECT {{template "step"}} AS step, sum({{template "edge" ""}}) AS n
    FROM plays
    WHERE songId = {song:String} AND {{template "edges" ""}} {{template "terms" $}} {{template "songs" $}}
    GROUP BY step
    {{- end}}
    {{- end}}
)
{{- if .Genres}}
WHERE hasAll(dictGetOrDefault(song_catalog, 'genres', {song:String}, emptyArrayString()), {genres:Array(String)})
{{- end}}
GROUP BY step

UNION ALL

SELECT -1 AS step, 0 AS plays, src, next, behind
FROM ({{template "prefix"}})
SETTINGS enable_shared_storage_snapshot_in_query = 1

{{define "step"}}intDiv(toUnixTimestamp(ts) - toUnixTimestamp({from:DateTime64(3, 'UTC')}), {seconds:UInt32}){{end}}
