-- When files of these paths were loaded.
SELECT path, print, loadedAt
FROM backfill_files FINAL
WHERE path IN {paths:Array(String)}
