-- The new plays of each day.
SELECT toStartOfDay(ts) AS day, count() AS plays
FROM backfill_plays
GROUP BY day
ORDER BY day
