-- The backfill whose plays are all staged and numbered, a row per file: from
-- then on it can only be finished. Empty when there is none.
CREATE TABLE IF NOT EXISTS backfill_runs
(
    began      DateTime64(3, 'UTC'),
    file       UInt32,
    path       String,
    print      String,
    size       UInt64,
    rejectKoff UInt64, -- of the first reject
    fromKoff   UInt64, -- of the first play that is appended to the log
    toKoff     UInt64, -- beyond the last one
    endKoff    UInt64  -- beyond the last one that goes through Kafka
)
ENGINE = MergeTree
ORDER BY file
