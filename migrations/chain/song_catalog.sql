-- The catalog in memory, for charts by genre and artist: a correction of the
-- catalog moves all history of the song at once.
CREATE DICTIONARY song_catalog
(
    songId   String,
    artistId String,
    genres   Array(String)
)
PRIMARY KEY songId
SOURCE(CLICKHOUSE(
    QUERY 'SELECT songId, artistId, genres FROM {{.Database}}.songs FINAL'
    INVALIDATE_QUERY 'SELECT count(), max(updatedAt) FROM {{.Database}}.songs'
))
LAYOUT(COMPLEX_KEY_HASHED())
LIFETIME(MIN 1 MAX 2)
