-- The catalog's entries that were written at or after a time.
SELECT songId, title, artistId, artist, genres, durationMs, updatedAt
FROM songs FINAL
WHERE updatedAt >= {since:DateTime64(3, 'UTC')}
