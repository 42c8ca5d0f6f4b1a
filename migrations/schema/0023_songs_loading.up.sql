-- Rows of files that are being loaded into the catalog, until all of them were
-- read and are right: songs are then written at once. What a load that was killed
-- left is gone a day later.
--
-- A deleted song is an entry of songs without title, artist and genres, which no
-- song may lack: charts by genre and artist do without it like without any other.
CREATE TABLE IF NOT EXISTS songs_loading
(
    load       UUID,
    row        UInt64, -- of all files; the last row of a song counts
    songId     String,
    title      String, -- '' deletes the song
    artistId   String,
    artist     String,
    genres     Array(LowCardinality(String)),
    durationMs UInt32,
    at         DateTime('UTC') DEFAULT now()
)
ENGINE = MergeTree
PARTITION BY load
ORDER BY (songId, row)
TTL at + INTERVAL 1 DAY
SETTINGS ttl_only_drop_parts = 1
