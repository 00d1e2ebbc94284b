-- Adds events to the stream: replayed dead letters, or events that the store may have lost.
-- KEYS: 1 stream, 2 dead letters
-- ARGV: 1 most entries, 2 life of the stream ms, then for each event: the id of its dead letter, or
--       'x' and its id in the stream; line; endpoint or ''
-- Returns the number of added events
local count = 0
for n = 3, #ARGV, 3 do
  local id, line, endpoint = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  local own = string.match(id, '^x(.+)$')
  local wanted
  if own then
    wanted = #redis.call('XRANGE', KEYS[1], own, own) == 0
  else
    -- The process that deletes the dead letter adds the event. A full stream takes no replay,
    -- because another event would be dropped.
    wanted = redis.call('XLEN', KEYS[1]) < tonumber(ARGV[1]) and redis.call('XDEL', KEYS[2], id) == 1
  end
  if wanted then
    if endpoint == '' then
      redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', 'd', line)
    else
      redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', 'd', line, 'e', endpoint)
    end
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    count = count + 1
  end
end
return count
