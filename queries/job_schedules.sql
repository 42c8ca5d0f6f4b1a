-- The jobs that have a schedule.
SELECT job, schedule
FROM job_schedules FINAL
ORDER BY job
