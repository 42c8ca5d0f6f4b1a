-- Whether a replay has begun to exchange tables.
SELECT count() > 0
FROM system.tables
WHERE database = currentDatabase() || '_replay' AND name = 'switching'
