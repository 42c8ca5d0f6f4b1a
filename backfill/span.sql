-- The span of event time of the staged plays, and how many rows they are.
SELECT count() AS plays, minOrDefault(ts) AS first, maxOrDefault(ts) AS last
FROM backfill_rows
WHERE reason = '' AND file != 0
