-- The catalog's entries that were written within the last so many seconds, by the
-- server's own clock; 0 for all of them. Those of deleted songs are among them,
-- without title, artist and genres.
SELECT songId, title, artistId, artist, genres, durationMs
FROM songs FINAL
WHERE {seconds:UInt32} = 0 OR updatedAt >= now64(3) - toIntervalSecond({seconds:UInt32})
