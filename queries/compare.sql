-- Songs by how far their plays in the window exceed what their share of the
-- reference lets expect (see topk.Rise). Both sides are counted as in chart.sql,
-- side 0 being the window and side 1 the reference, and of the same prefix of
-- the log. Rows with songId '' carry that prefix.
--
-- Songs that were not played in the window come last, and only for the totals,
-- which every row has: the caller drops them.
WITH
{{template "watermarks" .Plan}}
SELECT
    songId, plays, reference, total, referenceTotal,
    if(referenceTotal = 0, 0, reference / referenceTotal * total) AS expected,
    (plays - expected) / sqrt(expected + 1) AS score,
    toUInt32(0) AS src, toUInt64(0) AS next, false AS behind
FROM
(
    SELECT
        songId,
        toUInt64(sumIf(n, side = 0)) AS plays,
        toUInt64(sumIf(n, side = 1)) AS reference,
        sum(plays) OVER () AS total,
        sum(reference) OVER () AS referenceTotal
    FROM
    (
        {{- range $i, $side := .Sides}}
        {{- if $i}}

        UNION ALL
        {{end}}
        {{template "side" $side}}
        {{- end}}
    )
    GROUP BY songId
    {{- if .Genres}}
    HAVING hasAll(dictGetOrDefault(song_catalog, 'genres', songId, emptyArrayString()), {genres:Array(String)})
    {{- end}}
)
ORDER BY plays > 0 DESC, score DESC, songId DESC
LIMIT {k:UInt32}

UNION ALL

SELECT '' AS songId, 0 AS plays, 0 AS reference, 0 AS total, 0 AS referenceTotal, 0 AS expected, 0 AS score, src, next, behind
FROM ({{template "prefix"}})
SETTINGS enable_shared_storage_snapshot_in_query = 1

{{define "side"}}
    {{- range $i, $grain := .Plan.Grains}}
        {{- if $i}}

        UNION ALL
        {{end}}
        {{- if eq $grain "days"}}
        SELECT {{$.N}} AS side, songId, toInt64(sum(plays)) AS n
        FROM rollup_day
        WHERE {{template "value" $}} AND {{template "days" $.N}} {{template "songs" $}}
        GROUP BY songId
        {{- else if eq $grain "hours"}}
        SELECT {{$.N}} AS side, songId, toInt64(sum(plays)) AS n
        FROM rollup_hour
        WHERE {{template "value" $}} AND {{template "hours" $.N}} {{template "songs" $}}
        GROUP BY songId
        {{- else if eq $grain "tail"}}
        SELECT {{$.N}} AS side, songId, toInt64(count()) AS n
        FROM plays
        WHERE {{template "tail" $.N}} {{template "terms" $}} {{template "songs" $}}
        GROUP BY songId
        {{- else}}
        SELECT {{$.N}} AS side, songId, sum({{template "edge" $.N}}) AS n
        FROM plays
        WHERE {{template "edges" $.N}} {{template "terms" $}} {{template "songs" $}}
        GROUP BY songId
        {{- end}}
    {{- end}}
{{end}}

{{define "value"}}
        {{- if .Everyone}}dim = 'global' AND val = ''{{else}}dim = {dim:String} AND val = {val:String}{{end}}
{{- end}}
