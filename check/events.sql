-- Hashes of event ids that occur more than once, among those of one bucket: the
-- log is gone through a bucket at a time, so that they fit into memory.
SELECT cityHash64(eventId) AS hash
FROM plays
WHERE at >= {since:DateTime64(3, 'UTC')} AND hash % {buckets:UInt32} = {bucket:UInt32}
GROUP BY hash
HAVING count() > 1
LIMIT {limit:UInt32}
