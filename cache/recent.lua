-- Writes the recent history of one session unless Redis holds a newer one.
--
-- KEYS  1 chat:conversation:<session_id>
--       2 afterword:recent:{chat:conversation:<session_id>}
-- ARGV  1 version  2 value of the first key  3 turns  4 TTL in milliseconds
--       5 signature  6 maximum size of a value in bytes: an entry with a larger
--         one is not genuine  7 signature of another entry that is not genuine;
--         absent for none
--
-- Returns 1 when it was written, 0 when a newer version is there.
--
-- A version is: erased through, last timestamp, last id, revision. The first and
-- the last order it, see Version.Compare. Numbers are compared as decimal strings,
-- so none is rounded, digit by digit, because Lua's < follows the server's locale.

local function parse(version)
  local erased, revision = string.match(version, '^(%d+) %d+ %S* (%d+)$')
  if erased then
    return { erased, revision }
  end
end

local function number(a, b)
  if #a ~= #b then
    return #a - #b
  end
  for i = 1, #a do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x - y
    end
  end
  return 0
end

local function older(a, b)
  local c = number(a[1], b[1])
  if c == 0 then
    c = number(a[2], b[2])
  end
  return c < 0
end

local new = parse(ARGV[1])
if not new then
  return redis.error_reply('ERR malformed version')
end

local function oversized()
  for _, value in ipairs(redis.call('HMGET', KEYS[2], 'version', 'turns', 'mac')) do
    if value and #value > tonumber(ARGV[6]) then
      return true
    end
  end
  return false
end

local stored = redis.pcall('HGET', KEYS[2], 'version')
local genuine = true
if type(stored) == 'table' then
  if not string.find(stored.err, 'WRONGTYPE', 1, true) then
    return redis.error_reply(stored.err)
  end
  genuine = false
elseif stored and ARGV[7] and (redis.call('HGET', KEYS[2], 'mac') or '') == ARGV[7] then
  genuine = false
elseif stored then
  local old = parse(stored)
  genuine = old and not (older(new, old) and oversized())
  if genuine and older(new, old) then
    return 0
  end
end

if not genuine then -- whatever its version says, with all that is beside it
  redis.call('DEL', KEYS[2])
end
redis.call('HSET', KEYS[2], 'version', ARGV[1], 'turns', ARGV[3], 'mac', ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
return 1
