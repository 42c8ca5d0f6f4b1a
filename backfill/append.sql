-- Appends the next plays to the log, as one block: one part, all or nothing. at
-- never decreases, as for the plays from Kafka. What is there already, should an
-- earlier statement have come through after all, is left out.
INSERT INTO plays
    (src, koff, at, ts, eventId, user, songId, artistId, country, region, device, contextKind, contextId, duration, segments, counted)
SELECT
    {source:UInt32} AS src,
    koff,
    greatest(now64(3, 'UTC'), (SELECT max(at) FROM plays)) AS at,
    ts, eventId, reinterpretAsUInt128(unhex(substring(userHash, 1, 32))) AS user, songId, artistId, country, region,
    device, contextKind, contextId, duration, segments, counted
FROM backfill_plays
WHERE koff >= {from:UInt64} AND koff < {to:UInt64}
  AND koff >= ifNull((SELECT max(koff) + 1 FROM plays WHERE src = {source:UInt32} GROUP BY src), 0)
ORDER BY koff
SETTINGS
    max_threads = 1,
    max_insert_threads = 1,
    max_block_size = 1000000,
    preferred_block_size_bytes = 0,
    min_insert_block_size_rows = 1000000000,
    min_insert_block_size_bytes = 100000000000
