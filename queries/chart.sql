-- The exact entries of one chart, or of the part of it beyond an entry: whole
-- days from rollup_day, whole hours from rollup_hour, what is beyond their
-- watermarks and the edges of the window from the log. Where an hour holds more
-- than the window does, plays of the log are taken off it. Rows with songId ''
-- carry the log's watermark.
--
-- A filter with two terms that are stored per play (say region and device) has
-- no rollup and is counted from the log alone, and so are listeners.
WITH
{{template "watermarks" .Plan}}
SELECT songId, score, total, ahead, beyond, toUInt32(0) AS src, toUInt64(0) AS next, false AS behind
FROM
(
    SELECT
        songId,
        score,
        sum(plays) OVER () AS total,
    {{- if .After}}
        countIf((score, songId) >= ({afterPlays:UInt64}, {afterSong:String})) OVER () AS ahead,
        (score, songId) < ({afterPlays:UInt64}, {afterSong:String}) AS beyond
    {{- else}}
        toUInt64(0) AS ahead,
        true AS beyond
    {{- end}}
    FROM ({{if .Listeners}}{{template "listeners of songs" .}}{{else}}{{template "plays of songs" .}}{{end}})
    -- Songs that are ahead come last instead of being left out: they carry the
    -- total of a page that is empty.
    ORDER BY beyond DESC, score DESC, songId DESC
    LIMIT {k:UInt32}
)

UNION ALL

SELECT '' AS songId, 0 AS score, 0 AS total, 0 AS ahead, false AS beyond, src, next, behind
FROM ({{template "prefix"}})
SETTINGS enable_shared_storage_snapshot_in_query = 1

{{define "plays of songs"}}
    SELECT songId, toUInt64(sum(n)) AS score, score AS plays
    FROM
    (
        {{template "song counts" .}}
    )
    {{- if .Genres}}
    WHERE {{template "of genres"}}
    {{- end}}
    GROUP BY songId
    HAVING score > 0
{{end}}

{{define "listeners of songs"}}
    SELECT songId, uniqExact(user) AS score, count() AS plays
    FROM plays
    PREWHERE {{template "edges" ""}}
    WHERE true {{template "terms" .}} {{template "songs" .}}
    {{- if .Genres}}
        AND {{template "of genres"}}
    {{- end}}
    GROUP BY songId
{{end}}

{{define "song counts"}}
    {{- range $i, $grain := .Plan.Grains}}
        {{- if $i}}

        UNION ALL
        {{end}}
        {{- if eq $grain "days"}}
        SELECT songId, toInt64(plays) AS n
        FROM rollup_day
        WHERE dim = {dim:String} AND val = {val:String} AND {{template "days" ""}} {{template "songs" $}}
        {{- else if eq $grain "hours"}}
        SELECT songId, toInt64(plays) AS n
        FROM rollup_hour
        WHERE dim = {dim:String} AND val = {val:String} AND {{template "hours" ""}} {{template "songs" $}}
        {{- else if eq $grain "tail"}}
        SELECT songId, toInt64(1) AS n
        FROM plays
        WHERE {{template "tail" ""}} {{template "terms" $}} {{template "songs" $}}
        {{- else}}
        -- A play that came late makes every row around it be looked at. Their
        -- times first: of most of them nothing else is read.
        SELECT songId, {{template "edge" ""}} AS n
        FROM plays
        PREWHERE {{template "edges" ""}}
        WHERE true {{template "terms" $}} {{template "songs" $}}
        {{- end}}
    {{- end}}
{{end}}

{{define "of genres"}}
    -- As a set, before anything is counted: half the work of asking the
    -- dictionary for each song that was counted.
    songId IN (SELECT songId FROM songs FINAL WHERE hasAll(genres, {genres:Array(String)}))
{{end}}

{{define "terms"}}
        AND counted
    {{- range $i, $dim := .Stored}}
        {{- if eq $dim "region"}}
        AND (country = {v{{$i}}:String} OR region = {v{{$i}}:String})
        {{- else if eq $dim "segment"}}
        AND has(segments, {v{{$i}}:String})
        {{- else if eq $dim "device"}}
        AND device = {v{{$i}}:String}
        {{- else}}
        AND contextKind = '{{$dim}}' AND contextId = {v{{$i}}:String}
        {{- end}}
    {{- end}}
{{end}}

{{define "songs"}}
    {{- if .Songs}}
        AND songId IN {songs:Array(String)}
    {{- end}}
{{end}}
