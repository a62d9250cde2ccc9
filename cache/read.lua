-- Reads the recent history of one session, unless a value is larger than any that is
-- written: it is forged, and to send it would keep Redis from all else for seconds.
--
-- KEYS  1 afterword:recent:{chat:conversation:<session_id>}
-- ARGV  1 maximum size of a value in bytes
--
-- Returns version, turns and signature, or 'oversized'.

for _, field in ipairs({'version', 'turns', 'mac'}) do
  local size = redis.pcall('HSTRLEN', KEYS[1], field)
  if type(size) == 'table' then
    return size -- an error
  end
  if size > tonumber(ARGV[1]) then
    return 'oversized'
  end
end
return redis.pcall('HMGET', KEYS[1], 'version', 'turns', 'mac')
