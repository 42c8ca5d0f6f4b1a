-- Reads one chart of one version: scripts run alone, so nobody writes between
-- the two reads.
-- KEYS: the ZSET, the HASH. ARGV: the most entries wanted, the HASH's fields.
return {
  redis.call('HMGET', KEYS[2], unpack(ARGV, 2)),
  redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'REV', 'WITHSCORES'),
}
