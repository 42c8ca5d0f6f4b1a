-- As rollup_hour, per day of event time, and kept for ever.
CREATE TABLE IF NOT EXISTS rollup_day
(
    dim    LowCardinality(String),
    val    String,
    songId String,
    ts     DateTime('UTC'),
    plays  SimpleAggregateFunction(sum, UInt64),
    wm     SimpleAggregateFunction(max, UInt64),
    wmAt   SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    month  Date -- of insertion
)
ENGINE = AggregatingMergeTree
PARTITION BY month
ORDER BY (dim, val, songId, ts)
