-- Keeps what is no play where rejected messages are kept. Repeating it changes
-- nothing: the positions are the same.
INSERT INTO plays_rejected (src, koff, at, topic, partition, producedAt, reason, eventId, raw)
SELECT
    {source:UInt32} AS src,
    {base:UInt64} + rowNumberInAllBlocks() AS koff,
    greatest(now64(3, 'UTC'), (SELECT max(at) FROM plays)) AS at,
    transform(file, {files:Array(UInt32)}, {paths:Array(String)}, '') AS topic,
    0 AS partition,
    {began:DateTime64(3, 'UTC')} AS producedAt,
    reason,
    eventId,
    raw
FROM (SELECT * FROM backfill_rows WHERE reason != '' AND file != 0 ORDER BY file, row)
SETTINGS max_insert_threads = 1, max_bytes_before_external_sort = 500000000
