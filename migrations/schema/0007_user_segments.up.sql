-- Which segments a user is in; user as in plays. The last write wins.
CREATE TABLE IF NOT EXISTS user_segments
(
    user      UInt128,
    segments  Array(LowCardinality(String)),
    updatedAt DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(updatedAt)
ORDER BY user
