-- Messages that are not plays, with the reason and the bytes, to be corrected
-- and replayed. A redelivered block may write them twice: Replacing, by
-- position, makes them one. (producedAt keeps the message of a topic apart from
-- that of the topic that was made again under its name, until that is noticed.)
CREATE TABLE IF NOT EXISTS plays_rejected
(
    src        UInt32,
    koff       UInt64,
    at         DateTime64(3, 'UTC'),
    topic      LowCardinality(String),
    partition  UInt16,
    producedAt DateTime64(3, 'UTC'),
    reason     String,
    -- As far as the message has one that is valid; '' otherwise.
    eventId    String CODEC(ZSTD(1)),
    raw        String CODEC(ZSTD(1)),

    INDEX event eventId TYPE bloom_filter GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(at)
ORDER BY (src, koff, producedAt)
TTL toDateTime(at) + INTERVAL 14 DAY
SETTINGS ttl_only_drop_parts = 1
