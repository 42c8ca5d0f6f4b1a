-- The views that fill the rollups.
SELECT view, status, exception
FROM system.view_refreshes
WHERE database = currentDatabase()
ORDER BY view
