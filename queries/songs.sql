-- The catalog's entries for some songs.
SELECT songId, title, artistId, artist, genres, durationMs
FROM songs FINAL
WHERE songId IN {ids:Array(String)}
