-- Reads one chart of one version: scripts run alone, so nobody writes between
-- the reads.
-- KEYS: the ZSET, the HASH. ARGV: the most entries wanted, the previousVersion
--   that the reader has, the HASH's fields, of which previousVersion is the last.
-- Returns the fields, the members with scores, and previous, or nil when the
--   reader has it: it is long, and changes once a day.
local fields = redis.call('HMGET', KEYS[2], unpack(ARGV, 3))
local entries = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'REV', 'WITHSCORES')
local previous = false
if fields[#fields] and fields[#fields] ~= ARGV[2] then
  previous = redis.call('HGET', KEYS[2], 'previous')
end
return {fields, entries, previous}
