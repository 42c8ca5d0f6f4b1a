-- rollup_day by the week of insertion. A partition has all days of a value side
-- by side, so a day is read with all others of its partition: with a month's
-- before. For ever, so not by the day: there would be too many.
--
-- The projection says which values there are, and the first day with plays,
-- without reading what is kept for ever.
CREATE OR REPLACE TABLE rollup_day
(
    dim    LowCardinality(String),
    val    String,
    songId String,
    ts     DateTime('UTC'),
    plays  SimpleAggregateFunction(sum, UInt64),
    wm     SimpleAggregateFunction(max, UInt64),
    wmAt   SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    week   Date, -- of insertion, its Monday

    INDEX ts_range ts TYPE minmax GRANULARITY 1,
    PROJECTION vals (SELECT dim, val, min(ts) GROUP BY dim, val)
)
ENGINE = AggregatingMergeTree
PARTITION BY week
ORDER BY (dim, val, songId, ts)
SETTINGS deduplicate_merge_projection_mode = 'rebuild'
AS SELECT dim, val, songId, ts, plays, wm, wmAt, week
FROM rollup_day
