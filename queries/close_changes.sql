-- What a run is about to write for a date: revisions of charts that had none,
-- and of those that had.
SELECT countIf(before = 0) AS first, countIf(before > 0) AS again
FROM ({{template "new revisions"}})
