-- Appends to the log, only beyond its own end: what a redelivered block holds
-- that is already there is left out.
CREATE MATERIALIZED VIEW plays_fill TO plays
AS
WITH (SELECT maxMap(map(src, next)) FROM (SELECT src, max(koff) + 1 AS next FROM plays GROUP BY src)) AS heads
SELECT
    src, koff, at, ts, eventId, user, songId, artistId, country, region,
    device, contextKind, contextId, duration, segments, counted
FROM judged
WHERE (src, koff) = (ownerSrc, ownerKoff) AND koff >= heads[src]
