-- Gives every new play its offset, by event time. Of the rows of one event the
-- first one counts; a mark that the log has it is the first of all.
INSERT INTO backfill_plays
    (koff, key, file, ts, eventId, userHash, songId, artistId, country, region, device, contextKind, contextId, duration, segments, counted)
SELECT
    {base:UInt64} + rowNumberInAllBlocks() AS koff,
    key, file, ts, eventId, userHash, songId, artistId, country, region, device, contextKind, contextId, duration, segments, counted
FROM
(
    SELECT *
    FROM
    (
        SELECT * FROM backfill_rows WHERE reason = '' ORDER BY key, file, row LIMIT 1 BY key
    )
    WHERE file != 0
    ORDER BY ts, key
)
SETTINGS max_insert_threads = 1, optimize_read_in_order = 1, max_bytes_before_external_sort = 500000000
