-- Up to when a job has been done, well or not: of what was due by its schedule,
-- and at all. A run that was interrupted has done nothing; where there are only
-- such, it is up to just before the first.
WITH state IN ('failed', 'succeeded') AS done
SELECT
    maxIf(due, done),
    if(countIf(done) > 0 OR count() = 0, maxIf(greatest(due, startedAt), done), min(askedAt) - toIntervalMillisecond(1))
FROM jobs FINAL
WHERE job = {job:String} AND state != 'requested'
