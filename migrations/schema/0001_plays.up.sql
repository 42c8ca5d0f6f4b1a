-- The log: every accepted play is one row, and everything else is derived from
-- it. (src, koff) names the row for ever: src is epoch * 65536 + Kafka
-- partition (or a backfill's number), koff the offset there.
--
-- PARTITION BY the day of `at`, the moment its block was inserted, and not of
-- `ts`, the event time: so one block is one part, and a part appears whole or
-- not at all, whatever is killed.
CREATE TABLE IF NOT EXISTS plays
(
    src         UInt32,
    koff        UInt64 CODEC(DoubleDelta, ZSTD(1)),
    at          DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    ts          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    eventId     String CODEC(ZSTD(1)),
    -- The first half of the HMAC-SHA-256 of the user's id.
    user        UInt128 CODEC(ZSTD(1)),
    songId      String CODEC(ZSTD(1)),
    artistId    String CODEC(ZSTD(1)),
    country     LowCardinality(String),
    -- country or country/city, as charts name it.
    region      LowCardinality(String),
    device      LowCardinality(String),
    contextKind LowCardinality(String),
    contextId   String CODEC(ZSTD(1)),
    -- Seconds listened; -1 when the event did not say.
    duration    Int32 CODEC(ZSTD(1)),
    -- The user's segments when the play came in.
    segments    Array(LowCardinality(String)),
    -- False for plays that were too short to count.
    counted     Bool,

    -- Rows lie in the order of arrival, which is nearly that of event time.
    INDEX ts_range ts TYPE minmax GRANULARITY 1,
    -- The next offset per src, without reading the log.
    PROJECTION heads (SELECT src, max(koff) GROUP BY src)
)
ENGINE = MergeTree
PARTITION BY toDate(at)
ORDER BY (src, koff)
TTL toDateTime(at) + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1
