-- Writes a mark, unless the mark before it is not there.
--
-- KEYS  1 afterword:recent:{chat:conversation:<id of a mark>}
-- ARGV  1 version  2 signature  3 TTL in milliseconds
--       4 version of the mark before; '' writes without looking for one
--
-- Returns 1 when it was written, 0 when the mark before is not there: Redis has lost
-- what was written since some moment.

local old = redis.pcall('HGET', KEYS[1], 'version')
if type(old) == 'table' then
  if not string.find(old.err, 'WRONGTYPE', 1, true) then
    return redis.error_reply(old.err)
  end
  old = ''
end
if ARGV[4] ~= '' and old ~= ARGV[4] and old ~= ARGV[1] then
  return 0
end
if old == '' then
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'mac', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
