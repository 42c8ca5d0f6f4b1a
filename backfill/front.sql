-- The next plays that go through Kafka, without those that the log has by now.
SELECT eventId, userHash, songId, artistId, toUnixTimestamp64Milli(ts) AS ms, region, device, contextKind, contextId, duration
FROM backfill_plays
WHERE koff >= {from:UInt64} AND koff < {to:UInt64}
  AND key NOT IN
  (
      SELECT key
      FROM backfill_rows
      WHERE file = 0 AND key IN (SELECT key FROM backfill_plays WHERE koff >= {from:UInt64} AND koff < {to:UInt64})
  )
ORDER BY koff
