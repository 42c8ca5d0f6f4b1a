-- The catalog's entries for some songs; those of deleted songs have no title.
SELECT songId, title, artistId, artist, genres, durationMs
FROM songs FINAL
WHERE songId IN {ids:Array(String)}
  AND title != ''
