-- The log in an order in which a span of event time is few rows. Plays that came
-- late lay among the others before, so that every range of rows reached hours
-- back: of the edges of a window seven times as much was read as they hold. They
-- lie apart now, by the hour they are of; the others as before.
--
-- What came in since a moment is found by `at` the same way: it never decreases
-- within a source. (See 0001 for the rest.)
CREATE OR REPLACE TABLE plays
(
    src         UInt32,
    koff        UInt64 CODEC(DoubleDelta, ZSTD(1)),
    at          DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    ts          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    eventId     String CODEC(ZSTD(1)),
    user        UInt128 CODEC(ZSTD(1)),
    songId      String CODEC(ZSTD(1)),
    artistId    String CODEC(ZSTD(1)),
    country     LowCardinality(String),
    region      LowCardinality(String),
    device      LowCardinality(String),
    contextKind LowCardinality(String),
    contextId   String CODEC(ZSTD(1)),
    duration    Int32 CODEC(ZSTD(1)),
    segments    Array(LowCardinality(String)),
    counted     Bool,

    INDEX ts_range ts TYPE minmax GRANULARITY 1,
    INDEX at_range at TYPE minmax GRANULARITY 1,
    PROJECTION heads (SELECT src, max(koff) GROUP BY src)
)
ENGINE = MergeTree
PARTITION BY toDate(at)
ORDER BY (if(at > ts + INTERVAL 5 MINUTE, toStartOfHour(toDateTime(ts)), toDateTime(0, 'UTC')), src, koff)
TTL toDateTime(at) + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1
AS SELECT * FROM plays
