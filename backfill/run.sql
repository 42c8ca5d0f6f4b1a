-- The files of the backfill that is to be finished.
SELECT began, file, path, print, size, rejectKoff, fromKoff, toKoff, endKoff
FROM backfill_runs
ORDER BY file
