-- Writes the entries of the charts in closing_counts that differ from their
-- latest revision, with each song's career, by the rules of topk.Career: from
-- the last earlier date on which the song was on the chart.
INSERT INTO closed_entries
    (period, date, dim, val, closedAt, rank, songId, plays, previousRank, peak, peakDate, periods, streak, movement)
SELECT
    {period:String}, {date:Date}, dim, val, {closedAt:DateTime64(3, 'UTC')},
    rank, songId, plays, previousRank, peak, peakDate, periods, streak,
    multiIf(
        previousRank = 0, if(periods > 1, 're-entry', 'new'),
        rank < previousRank, 'up',
        rank > previousRank, 'down',
        'same') AS movement
FROM
(
    SELECT *, sum({{template "print of an entry"}}) OVER (PARTITION BY dim, val) AS checksum
    FROM
    (
        SELECT
            dim, val, totalPlays, rank, songId, plays,
            last.periods > 0 AND last.date = {previousDate:Date} AS adjacent,
            last.periods = 0 OR rank < last.peak AS best,
            if(adjacent, last.rank, 0)::UInt16 AS previousRank,
            if(best, rank, last.peak) AS peak,
            if(best, {date:Date}, last.peakDate) AS peakDate,
            (last.periods + 1)::UInt32 AS periods,
            if(adjacent, last.streak + 1, 1)::UInt32 AS streak
        FROM closing_counts
        LEFT JOIN
        (
            SELECT
                dim, val, songId,
                argMax(
                    CAST((date, rank, peak, peakDate, periods, streak),
                        'Tuple(date Date, rank UInt16, peak UInt16, peakDate Date, periods UInt32, streak UInt32)'),
                    date) AS last
            FROM closed_entries
            WHERE period = {period:String} AND date < {date:Date}
              AND (dim, val, songId) IN (SELECT dim, val, songId FROM closing_counts WHERE closedAt = {closedAt:DateTime64(3, 'UTC')})
              AND (date, dim, val, closedAt) IN
              (
                  SELECT date, dim, val, max(closedAt)
                  FROM closed_charts
                  WHERE period = {period:String} AND date < {date:Date}
                  GROUP BY date, dim, val
              )
            GROUP BY dim, val, songId
        ) AS before USING (dim, val, songId)
        WHERE closing_counts.closedAt = {closedAt:DateTime64(3, 'UTC')}
    )
)
WHERE (dim, val, totalPlays, checksum) NOT IN (SELECT dim, val, totalPlays, checksum FROM ({{template "latest revisions"}}))

{{define "print of an entry"}}cityHash64(rank, songId, plays, previousRank, peak, peakDate, periods, streak){{end}}

{{define "latest revisions"}}
    SELECT
        dim, val,
        argMax(revision, closedAt) AS revision,
        argMax(totalPlays, closedAt) AS totalPlays,
        argMax(songs, closedAt) AS songs,
        argMax(checksum, closedAt) AS checksum
    FROM closed_charts
    WHERE period = {period:String} AND date = {date:Date}
    GROUP BY dim, val
{{end}}

{{define "new revisions"}}
    -- Charts whose entries were just written, and those that have none any more.
    SELECT dim, val, fresh.totalPlays AS totalPlays, fresh.songs AS songs, fresh.checksum AS checksum, latest.revision AS before
    FROM
    (
        SELECT dim, val, totalPlays, songs, checksum
        FROM
        (
            SELECT dim, val, count() AS songs, sum({{template "print of an entry"}}) AS checksum
            FROM closed_entries
            WHERE period = {period:String} AND date = {date:Date} AND closedAt = {closedAt:DateTime64(3, 'UTC')}
            GROUP BY dim, val
        ) AS written
        INNER JOIN ({{template "counted charts"}}) AS counted USING (dim, val)

        UNION ALL

        SELECT dim, val, 0 AS totalPlays, 0 AS songs, 0 AS checksum
        FROM ({{template "latest revisions"}})
        WHERE songs > 0 AND (dim, val) NOT IN (SELECT dim, val FROM ({{template "counted charts"}}))
    ) AS fresh
    LEFT JOIN ({{template "latest revisions"}}) AS latest USING (dim, val)
{{end}}

{{define "counted charts"}}
    SELECT dim, val, totalPlays
    FROM closing_counts
    WHERE closedAt = {closedAt:DateTime64(3, 'UTC')} AND rank = 1
{{end}}
