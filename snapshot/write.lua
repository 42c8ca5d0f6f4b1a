-- Publishes one version of one chart, or refuses.
-- KEYS: the ZSET, the HASH.
-- ARGV: the version, the writer, the base, the TTL in ms, the number n of values
--   that make n / 2 fields of the HASH, the number m of members to remove, those
--   n values, those m members, and then pairs of score and member to set.
--   base is the version against which the difference was taken, or '' when
--   everything is sent.
-- Returns 'written', 'stale' (a version as new is there: nothing was done) or
--   'behind' (Redis does not hold the base as this writer wrote it: nothing was
--   done, send everything).
local top, meta = KEYS[1], KEYS[2]
local version, writer, base, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local fields = 7
local removed = fields + ARGV[5]
local set = removed + ARGV[6]

local held = redis.call('HMGET', meta, 'version', 'writer', 'size')
if held[1] and tonumber(held[1]) >= tonumber(version) then
  return 'stale'
end
if base == '' then
  redis.call('DEL', top, meta)
elseif held[1] ~= base or held[2] ~= writer or redis.call('ZCARD', top) ~= tonumber(held[3]) then
  return 'behind'
end

if set > removed then
  redis.call('ZREM', top, unpack(ARGV, removed, set - 1))
end
if #ARGV >= set then
  redis.call('ZADD', top, unpack(ARGV, set))
end
redis.call('HSET', meta, unpack(ARGV, fields, removed - 1))
-- One clock reading serves the whole script, so both expire in the same
-- millisecond.
redis.call('PEXPIRE', top, ttl)
redis.call('PEXPIRE', meta, ttl)
return 'written'
