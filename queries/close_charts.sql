-- Makes the new revisions of a date's charts appear. Nothing is written when
-- closing_counts is not what it was when it had been filled: then another run
-- has begun.
INSERT INTO closed_charts (period, date, dim, val, revision, closedAt, totalPlays, songs, checksum)
SELECT
    {period:String}, {date:Date}, dim, val, before + 1, {closedAt:DateTime64(3, 'UTC')},
    totalPlays, songs, checksum
FROM ({{template "new revisions"}})
WHERE (SELECT count() FROM closing_counts WHERE closedAt = {closedAt:DateTime64(3, 'UTC')}) = {counted:UInt64}
