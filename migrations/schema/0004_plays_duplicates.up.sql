-- Repeats of plays: messages whose eventId another message owns, which counts
-- instead. They tell where an event went, and account for the offsets that are
-- in none of the other tables: every offset read is a play, a repeat or a
-- reject, which is how a lost block would show.
--
-- A block that was killed before it was committed may be judged anew in another
-- order, so a row here can be of a message that is in the log after all: the
-- log is right.
CREATE TABLE IF NOT EXISTS plays_duplicates
(
    src       UInt32,
    koff      UInt64 CODEC(DoubleDelta, ZSTD(1)),
    at        DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    eventId   String CODEC(ZSTD(1)),
    ownerSrc  UInt32 CODEC(ZSTD(1)),
    ownerKoff UInt64 CODEC(ZSTD(1)),

    INDEX event eventId TYPE bloom_filter GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(at)
ORDER BY (src, koff)
TTL toDateTime(at) + INTERVAL 14 DAY
SETTINGS ttl_only_drop_parts = 1
