-- Publishes one version of one chart, or refuses.
-- KEYS: the ZSET, the HASH.
-- ARGV: the version, which is also the chart's asOf; the writer; the base, which
--   is the version against which the difference was taken, or '' when everything
--   is sent; the TTL in ms, or '' to let it run on; size, windowStart, windowEnd,
--   totalPlays and watermark as in the HASH; previousAsOf and previous, both ''
--   to leave them as they are; the number of members to remove; those members;
--   and then pairs of score and member to set.
-- Returns 'written', 'stale' (a version as new is there: nothing was done) or
--   'behind' (Redis does not hold the base as this writer wrote it: nothing was
--   done, send everything).
--
-- It runs thousands of times a second, mostly with no member to change, and a
-- call costs more than the rest: hence as few of them as will do. Globals are
-- looked up in Redis' table of them each time, locals are not.
local call, ARGV, top, meta = redis.call, ARGV, KEYS[1], KEYS[2]
local version, writer, base, ttl, size = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local removed = 13
local set = removed + ARGV[12]

local held = call('HMGET', meta, 'version', 'writer', 'size')
if held[1] and tonumber(held[1]) >= tonumber(version) then
  return 'stale'
end
if base == '' then
  call('DEL', top)
elseif held[1] ~= base or held[2] ~= writer or call('ZCARD', top) ~= tonumber(held[3]) then
  return 'behind'
end

if set > removed then
  call('ZREM', top, unpack(ARGV, removed, set - 1))
end
if #ARGV >= set then
  call('ZADD', top, unpack(ARGV, set))
end
call('HSET', meta, 'version', version, 'asOf', version, 'windowStart', ARGV[6], 'windowEnd', ARGV[7],
  'totalPlays', ARGV[8], 'watermark', ARGV[9])
if held[2] ~= writer or held[3] ~= size then
  call('HSET', meta, 'size', size, 'writer', writer)
end
if ARGV[10] ~= '' then
  call('HSET', meta, 'previousVersion', version, 'previousAsOf', ARGV[10], 'previous', ARGV[11])
end
if ttl ~= '' then
  -- One clock reading serves the whole script, so both expire in the same
  -- millisecond.
  call('PEXPIRE', top, ttl)
  call('PEXPIRE', meta, ttl)
end
return 'written'
