-- The dates of which there is a closed chart, the latest first.
SELECT
    date,
    argMax(revision, closed_charts.closedAt) AS revision,
    max(closedAt) AS closedAt,
    argMax(totalPlays, closed_charts.closedAt) AS totalPlays
FROM closed_charts
WHERE period = {period:String} AND dim = {dim:String} AND val = {val:String}
{{- if .Before}} AND date < {before:Date}{{end}}
GROUP BY date
HAVING argMax(songs, closed_charts.closedAt) > 0
ORDER BY date DESC
LIMIT {k:UInt32}
