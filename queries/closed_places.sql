-- A song's places on the closed charts of some dates, in their latest revisions:
-- on all of them, or on those of one filter.
SELECT dim, val, date, revision, rank, plays, previousRank, peak, peakDate, periods, streak, movement
FROM
(
    SELECT *
    FROM closed_entries
    WHERE songId = {song:String} AND {{template "closed in dates" .}}
) AS entries
INNER JOIN
(
    SELECT date, dim, val, max(closedAt) AS closedAt, argMax(revision, closed_charts.closedAt) AS revision
    FROM closed_charts
    WHERE {{template "closed in dates" .}}
    GROUP BY date, dim, val
) AS latest USING (date, dim, val, closedAt)
ORDER BY date, rank

{{define "closed in dates"}}
    period = {period:String} AND date >= {from:Date} AND date < {to:Date}
    {{- if .Chart}} AND dim = {dim:String} AND val = {val:String}{{end}}
{{- end}}
