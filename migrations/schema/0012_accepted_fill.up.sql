-- Takes each event id once. A row passes when its key has no owner yet, or it
-- is the owner itself, redelivered after a kill. The owner is what `seen`
-- says, and, for blocks that reached the log but were killed before `seen`,
-- what the log says: those blocks are not older than the marker, the `at` of
-- the last block that is in `seen`. `at` never decreases from block to block.
--
-- LIMIT 1 BY comes last: before the owner is known it could keep the wrong one
-- of two rows and lose the play.
CREATE MATERIALIZED VIEW IF NOT EXISTS accepted_fill TO accepted
AS
WITH
    (SELECT fromUnixTimestamp64Milli(toInt64(max(koff)), 'UTC') FROM seen WHERE key = 0) AS marker
SELECT
    l.src AS src, l.koff AS koff, l.at AS at, l.key AS key, l.ts AS ts,
    l.eventId AS eventId, l.user AS user, l.songId AS songId,
    l.artistId AS artistId, l.country AS country, l.region AS region,
    l.device AS device, l.contextKind AS contextKind,
    l.contextId AS contextId, l.duration AS duration,
    l.segments AS segments, l.counted AS counted
FROM (SELECT * FROM landing WHERE reason = '') AS l
ANY LEFT JOIN seen AS s ON l.key = s.key
ANY LEFT JOIN
(
    SELECT
        reinterpretAsUInt128(sipHash128(eventId)) AS key,
        src,
        koff
    FROM plays
    WHERE at >= marker - INTERVAL 1 SECOND
) AS unseen ON l.key = unseen.key
WHERE multiIf(
    s.key = l.key, (s.src, s.koff) = (l.src, l.koff),
    unseen.key = l.key, (unseen.src, unseen.koff) = (l.src, l.koff),
    true)
LIMIT 1 BY l.key
SETTINGS join_algorithm = 'direct,hash'
