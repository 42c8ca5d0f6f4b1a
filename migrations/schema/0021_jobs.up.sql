-- A row per run of a job, and state: the furthest state is what the run is in.
--
-- A run that is "running" holds the lock running_<job> (a table). Where nobody
-- holds it, the runner was killed, and the next run of the job says so here.
CREATE TABLE IF NOT EXISTS jobs
(
    job       LowCardinality(String),
    id        String,
    trigger   LowCardinality(String),
    host      LowCardinality(String),
    due       DateTime64(3, 'UTC'), -- by its schedule; 1970 for other triggers
    askedAt   DateTime64(3, 'UTC'), -- when it was due, asked for or begun
    startedAt DateTime64(3, 'UTC'), -- 1970: it has not
    endedAt   DateTime64(3, 'UTC'), -- 1970: it has not
    -- In the order of time, so that the later of two rows is the larger.
    state     Enum8('requested' = 1, 'running' = 2, 'interrupted' = 3, 'failed' = 4, 'succeeded' = 5),
    rows      UInt64,
    bytes     UInt64,
    error     String CODEC(ZSTD(1)),
    detail    String CODEC(ZSTD(1)),
    step      UInt8 MATERIALIZED toUInt8(state)
)
ENGINE = ReplacingMergeTree(step)
PARTITION BY toYYYYMM(askedAt) -- which is the same in all rows of a run
ORDER BY (job, id)
TTL toDateTime(askedAt) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1
