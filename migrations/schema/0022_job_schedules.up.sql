-- The jobs that have a schedule, as the runner said when it last started: the
-- API runs none, and knows them from here.
CREATE TABLE IF NOT EXISTS job_schedules
(
    job      LowCardinality(String),
    schedule String, -- as jobs.ParseSpec reads it
    at       DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(at)
ORDER BY job
TTL toDateTime(at) + INTERVAL 400 DAY
