-- Says who owns the event id of each play of a block: the position that counts.
-- Every other message of that id is a repeat.
--
-- The owner is, in this order:
--   1. what `seen` says;
--   2. what the log says, of plays that reached it but were killed before they
--      were in `seen`. They are the rows beyond their source's mark, normally
--      none. One mark per source and not one time for all, because after a kill
--      the sources are delivered again one by one, in any order: a mark for all
--      would move past the rows of those that are still to come. Backfilled plays
--      are too old to come any other way, and have no keys there;
--   3. the first message of the block that has this id. Views see the block
--      under every mention of their source table, hence also in the subquery.
--
-- A message that nobody knows, below the end of its source in the log, is not of
-- this source: its topic was deleted and made again. It is left to the epoch
-- that is about to begin (see epochs), and must not be in `seen` until then. A
-- redelivered play whose key has expired there is left out too; the log has it.
--
-- Rows leave in the order they came, by offset within each source: plays_fill
-- relies on it.
CREATE MATERIALIZED VIEW judge TO judged
AS
WITH
    (SELECT maxMap(map(src, next)) FROM (SELECT src, max(koff) + 1 AS next FROM plays GROUP BY src)) AS heads,
    (SELECT maxMap(map(src, koff)) FROM seen WHERE key IN (SELECT toUInt128(src) FROM plays GROUP BY src)) AS marks,
    mapKeys(mapFilter((src, next) -> next > marks[src] AND src != {{.Backfill}}, heads)) AS unmarked
SELECT
    l.src AS src, l.koff AS koff, l.at AS at, l.key AS key, l.ts AS ts,
    l.eventId AS eventId, l.user AS user, l.songId AS songId,
    l.artistId AS artistId, l.country AS country, l.region AS region,
    l.device AS device, l.contextKind AS contextKind,
    l.contextId AS contextId, l.duration AS duration,
    l.segments AS segments, l.counted AS counted,
    multiIf(s.key = l.key, s.src, u.key = l.key, u.src, r.key = l.key, r.first.1, l.src) AS ownerSrc,
    multiIf(s.key = l.key, s.koff, u.key = l.key, u.koff, r.key = l.key, r.first.2, l.koff) AS ownerKoff
FROM (SELECT * FROM landing WHERE reason = '') AS l
ANY LEFT JOIN seen AS s ON l.key = s.key
ANY LEFT JOIN
(
    SELECT
        reinterpretAsUInt128(sipHash128(eventId)) AS key,
        src,
        koff
    FROM plays
    WHERE notEmpty(unmarked) AND src IN (SELECT arrayJoin(unmarked)) AND koff >= marks[src]
      -- A source without plays for 48 hours has lost its mark, as `seen`
      -- forgets; all its rows are too old to matter.
      AND at >= now64(3) - INTERVAL 50 HOUR
) AS u ON l.key = u.key
ANY LEFT JOIN
(
    SELECT key, argMin((src, koff), n) AS first
    FROM (SELECT key, src, koff, rowNumberInAllBlocks() AS n FROM landing WHERE reason = '' AND koff >= heads[src])
    GROUP BY key
    HAVING count() > 1
) AS r ON l.key = r.key
WHERE s.key = l.key OR u.key = l.key OR l.koff >= heads[l.src]
SETTINGS join_algorithm = 'direct,hash', query_plan_join_swap_table = 'false'
