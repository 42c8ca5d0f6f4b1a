-- Statements of restores that were killed and that ClickHouse goes on with: what
-- they are about to add cannot be seen yet.
SELECT count()
FROM system.processes
WHERE current_database = currentDatabase() AND query_kind = 'Insert'
  AND query ILIKE 'INSERT INTO plays%' AND query ILIKE '%s3(%'
