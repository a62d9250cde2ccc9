-- Does what recent.lua does, on keys of its own, and leaves nothing behind. Returns
-- which commands were refused, each with what Redis said: "HSET", "READONLY …", …
--
-- KEYS  the two keys of a session that cannot exist, or one of them

local recent = KEYS[2] or KEYS[1]
local refused = {}

local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    refused[#refused + 1] = (...)
    refused[#refused + 1] = reply.err
    return false
  end
  return true
end

try('HGET', recent, 'version')
-- First what a full server refuses: it lets a script go on that has written already.
local set = try('SET', KEYS[1], '', 'PX', 1000)
local del, expire = try('DEL', recent), try('PEXPIRE', recent, 1000)
if del or expire then -- so that what is written goes away
  if try('HSET', recent, 'version', '') then
    if expire then redis.call('PEXPIRE', recent, 1000) end
    if del then redis.call('DEL', recent) end
  end
elseif set then -- on a string, so that nothing is written
  local reply = redis.pcall('HSET', KEYS[1], 'version', '')
  if type(reply) == 'table' and reply.err and not string.find(reply.err, 'WRONGTYPE', 1, true) then
    refused[#refused + 1] = 'HSET'
    refused[#refused + 1] = reply.err
  end
end
if set and del then
  redis.call('DEL', KEYS[1])
end
return refused
