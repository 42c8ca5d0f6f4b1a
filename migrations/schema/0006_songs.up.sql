-- The catalog. The last write of a song wins.
CREATE TABLE IF NOT EXISTS songs
(
    songId     String,
    title      String,
    artistId   String,
    artist     String,
    genres     Array(LowCardinality(String)),
    durationMs UInt32,
    updatedAt  DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(updatedAt)
ORDER BY songId
