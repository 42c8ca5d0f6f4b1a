-- As songs_loading, of users' segments. A user without segments is a deleted one.
CREATE TABLE IF NOT EXISTS user_segments_loading
(
    load     UUID,
    row      UInt64,
    user     UInt128, -- as in plays
    segments Array(LowCardinality(String)),
    at       DateTime('UTC') DEFAULT now()
)
ENGINE = MergeTree
PARTITION BY load
ORDER BY (user, row)
TTL at + INTERVAL 1 DAY
SETTINGS ttl_only_drop_parts = 1
