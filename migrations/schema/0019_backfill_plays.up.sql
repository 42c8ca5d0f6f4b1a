-- The plays of one backfill that are new, each with the offset it has or would
-- have in the log: in the order of event time, so that those too old for Kafka
-- come first.
CREATE TABLE IF NOT EXISTS backfill_plays
(
    koff        UInt64,
    key         UInt128,
    file        UInt32,
    ts          DateTime64(3, 'UTC'),
    eventId     String,
    userHash    String,
    songId      String,
    artistId    String,
    country     LowCardinality(String),
    region      LowCardinality(String),
    device      LowCardinality(String),
    contextKind LowCardinality(String),
    contextId   String,
    duration    Int32,
    segments    Array(LowCardinality(String)),
    counted     Bool
)
ENGINE = MergeTree
ORDER BY koff
