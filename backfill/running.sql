-- Statements of a backfill that was killed may still be running.
SELECT count()
FROM system.processes
WHERE query ILIKE 'INSERT INTO%' AND (query LIKE '%backfill_rows%' OR query LIKE '%backfill_plays%' OR query LIKE '%INTO backfill_%')
  AND current_database = currentDatabase()
