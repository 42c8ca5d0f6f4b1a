-- Plays per dimension value, song and hour of event time, as far as the
-- watermark in the same table: the rows of dim '_wm' say for each src (in val)
-- the next offset that is not counted yet (wm) and the `at` of the last row
-- that is (wmAt). Counts and watermark of one refresh are one block, hence one
-- part: PARTITION BY insertion time again.
--
-- Genre and artist have no rows: they are functions of the song.
CREATE TABLE IF NOT EXISTS rollup_hour
(
    dim    LowCardinality(String),
    val    String,
    songId String,
    ts     DateTime('UTC'),
    plays  SimpleAggregateFunction(sum, UInt64),
    wm     SimpleAggregateFunction(max, UInt64),
    wmAt   SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    day    Date -- of insertion
)
ENGINE = AggregatingMergeTree
PARTITION BY day
ORDER BY (dim, val, songId, ts)
TTL day + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1
