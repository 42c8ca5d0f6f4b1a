-- The exact first entries of one chart: whole days from rollup_day, whole hours
-- from rollup_hour, what is beyond their watermarks and the edges of the window
-- from the log. Rows with songId '' carry the log's watermark.
--
-- A filter with two terms that are stored per play (say region and device) has
-- no rollup and is counted from the log alone.
WITH
{{template "watermarks"}}
SELECT songId, plays, total, toUInt32(0) AS src, toUInt64(0) AS next, false AS behind
FROM
(
    SELECT songId, sum(n) AS plays, sum(sum(n)) OVER () AS total
    FROM
    (
        {{- if .Rollup}}
        SELECT songId, sum(plays) AS n
        FROM rollup_day
        WHERE dim = {dim:String} AND val = {val:String} AND {{template "days"}} {{template "songs" .}}
        GROUP BY songId

        UNION ALL

        SELECT songId, sum(plays) AS n
        FROM rollup_hour
        WHERE dim = {dim:String} AND val = {val:String} AND {{template "hours"}} {{template "songs" .}}
        GROUP BY songId

        UNION ALL

        SELECT songId, count() AS n
        FROM plays
        WHERE {{template "tail"}} {{template "terms" .}} {{template "songs" .}}
        GROUP BY songId

        UNION ALL
        {{end}}
        SELECT songId, count() AS n
        FROM plays
        WHERE {{template "edges"}} {{template "terms" .}} {{template "songs" .}}
        GROUP BY songId
    )
    GROUP BY songId
    {{- if .Genres}}
    -- Per song counted, not per row read: the catalog is asked once per song.
    HAVING hasAll(dictGetOrDefault(song_catalog, 'genres', songId, emptyArrayString()), {genres:Array(String)})
    {{- end}}
    ORDER BY plays DESC, songId DESC
    LIMIT {k:UInt32}
)

UNION ALL

SELECT '' AS songId, 0 AS plays, 0 AS total, src, next, behind
FROM ({{template "prefix"}})
SETTINGS enable_shared_storage_snapshot_in_query = 1

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
