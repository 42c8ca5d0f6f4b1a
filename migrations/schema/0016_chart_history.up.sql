-- Closed charts for analysts: the entries of every chart in its latest revision.
-- Titles and artists are in the table songs, by songId.
CREATE VIEW IF NOT EXISTS chart_history AS
SELECT
    period, date, dim, val, revision, closedAt, totalPlays,
    rank, songId, plays, previousRank, peak, peakDate, periods, streak, movement
FROM closed_entries
INNER JOIN
(
    SELECT
        period, date, dim, val,
        max(closedAt) AS closedAt,
        argMax(revision, closed_charts.closedAt) AS revision,
        argMax(totalPlays, closed_charts.closedAt) AS totalPlays
    FROM closed_charts
    GROUP BY period, date, dim, val
) AS latest USING (period, date, dim, val, closedAt)
