-- Writes the entries of the charts in closing_counts that differ from their
-- latest revision, with each song's career, by the rules of topk.Career: from
-- the last earlier date on which the song was on the chart.
INSERT INTO closed_entries
    (period, date, dim, val, closedAt, rank, songId, plays, previousRank, peak, peakDate, periods, streak, movement)
SELECT
    {period:String}, {date:Date}, dim, val, {closedAt:DateTime64(3, 'UTC')},
    entry.rank, entry.songId, entry.plays, entry.previousRank, entry.peak, entry.peakDate, entry.periods, entry.streak,
    multiIf(
        entry.previousRank = 0, if(entry.periods > 1, 're-entry', 'new'),
        entry.rank < entry.previousRank, 'up',
        entry.rank > entry.previousRank, 'down',
        'same') AS movement
FROM
(
    SELECT
        dim, val, any(totalPlays) AS total, sum({{template "print of an entry"}}) AS checksum,
        groupArray(CAST((rank, songId, plays, previousRank, peak, peakDate, periods, streak), 'Tuple(
            rank UInt16, songId String, plays UInt64, previousRank UInt16, peak UInt16, peakDate Date, periods UInt32, streak UInt32)')) AS entries
    FROM
    (
        SELECT
            dim, val, totalPlays, rank, songId, plays,
            before.periods > 0 AND before.lastDate = {previousDate:Date} AS adjacent,
            before.periods = 0 OR rank < before.peak AS best,
            if(adjacent, before.lastRank, 0)::UInt16 AS previousRank,
            if(best, rank, before.peak) AS peak,
            if(best, {date:Date}, before.peakDate) AS peakDate,
            (before.periods + 1)::UInt32 AS periods,
            if(adjacent, before.streak + 1, 1)::UInt32 AS streak
        FROM closing_counts
        LEFT JOIN ({{template "last places"}}) AS before USING (dim, val, songId)
        WHERE closing_counts.closedAt = {closedAt:DateTime64(3, 'UTC')}
    )
    GROUP BY dim, val
)
ARRAY JOIN entries AS entry
WHERE (dim, val, total, checksum) NOT IN (SELECT dim, val, totalPlays, checksum FROM ({{template "latest revisions"}}))

{{define "last places"}}
    -- Most songs were on the chart right before. Only the others are looked for
    -- in all of history, which their numbers keep cheap.
    SELECT
        dim, val, songId,
        max(date) AS lastDate,
        argMax(rank, date) AS lastRank,
        argMax(peak, date) AS peak,
        argMax(peakDate, date) AS peakDate,
        argMax(periods, date) AS periods,
        argMax(streak, date) AS streak
    FROM
    (
        SELECT dim, val, songId, date, rank, peak, peakDate, periods, streak
        FROM closed_entries
        WHERE {{template "on the chart before"}}

        UNION ALL

        SELECT dim, val, songId, date, rank, peak, peakDate, periods, streak
        FROM closed_entries
        PREWHERE way IN
        (
            SELECT way
            FROM closing_counts
            WHERE closedAt = {closedAt:DateTime64(3, 'UTC')}
              AND (dim, val, songId) NOT IN (SELECT dim, val, songId FROM closed_entries WHERE {{template "on the chart before"}})
        )
        WHERE period = {period:String} AND date < {previousDate:Date}
          AND (date, dim, val, closedAt) IN
          (
              SELECT date, dim, val, max(closedAt)
              FROM closed_charts
              WHERE period = {period:String} AND date < {previousDate:Date}
              GROUP BY date, dim, val
          )
    )
    GROUP BY dim, val, songId
{{end}}

{{define "on the chart before"}}
    period = {period:String} AND date = {previousDate:Date} AND (dim, val, closedAt) IN
    (
        SELECT dim, val, max(closedAt)
        FROM closed_charts
        WHERE period = {period:String} AND date = {previousDate:Date}
        GROUP BY dim, val
    )
{{end}}

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
        FROM ({{template "latest revisions"}}) AS had
        WHERE had.songs > 0 AND (dim, val) NOT IN (SELECT dim, val FROM ({{template "counted charts"}}))
    ) AS fresh
    LEFT JOIN ({{template "latest revisions"}}) AS latest USING (dim, val)
{{end}}

{{define "counted charts"}}
    SELECT dim, val, totalPlays
    FROM closing_counts
    WHERE closedAt = {closedAt:DateTime64(3, 'UTC')} AND rank = 1
{{end}}
