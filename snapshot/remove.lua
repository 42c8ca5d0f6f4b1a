-- Removes a chart, unless another writer has written it since.
-- KEYS: the ZSET, the HASH. ARGV: the writer.
-- Returns 'removed' or 'kept'.
local writer = redis.call('HGET', KEYS[2], 'writer')
if writer and writer ~= ARGV[1] then
  return 'kept'
end
redis.call('DEL', KEYS[1], KEYS[2])
return 'removed'
