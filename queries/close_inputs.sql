-- What else than plays decides closed charts: how often history was rewritten,
-- and which genres songs have.
SELECT
    (SELECT count() FROM rewrites) AS rewrites,
    (SELECT sum(cityHash64(songId, genres)) FROM songs FINAL) AS genres
