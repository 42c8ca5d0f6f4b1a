-- Rejected messages, by position, that were sent again, corrected. Replacing:
-- the last attempt counts.
CREATE TABLE IF NOT EXISTS rejected_replays
(
    src     UInt32,
    koff    UInt64,
    eventId String CODEC(ZSTD(1)), -- of the message that was sent
    at      DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(at)
PARTITION BY toDate(at)
ORDER BY (src, koff)
TTL toDateTime(at) + INTERVAL 15 DAY -- longer than the message itself
SETTINGS ttl_only_drop_parts = 1
