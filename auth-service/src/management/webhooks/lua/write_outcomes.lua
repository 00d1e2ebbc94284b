-- Writes down how events went, if this process still has the lease. What is repeated does no harm, but for dead letters, which may then stand twice.
-- KEYS: 1 lease, 2 stream, 3 progress, 4 dead letters
-- ARGV: 1 this process, 2 progress kept ms, 3 most dead letters, 4 dead letters kept ms, then lists, each with its count first:
--       dead letters: endpoint, cause, attempts, how the last one failed, line
--       progress: field '<entry> <endpoint>', attempts or 'd' (done)
--       progress to forget: field · entries that are finished: id
-- Returns -1 if another process has the lease, else how many dead letters went for want of room
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local at = 5
local function take()
  at = at + 1
  return ARGV[at - 1]
end
local function each(what)
  for _ = 1, tonumber(take()) do what() end
end
local time = redis.call('TIME')
local oldest = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[4]))
local gone, buried = 0, false
each(function()
  local endpoint, cause, attempts, last, line = take(), take(), take(), take(), take()
  redis.call('XADD', KEYS[4], '*', 'd', line, 'e', endpoint, 'c', cause, 'n', attempts, 'l', last)
  buried = true
end)
if buried then
  redis.call('XTRIM', KEYS[4], 'MINID', oldest)
  gone = redis.call('XTRIM', KEYS[4], 'MAXLEN', ARGV[3])
  redis.call('PEXPIRE', KEYS[4], ARGV[4])
end
local kept = false
each(function()
  redis.call('HSET', KEYS[3], take(), take())
  kept = true
end)
if kept then redis.call('PEXPIRE', KEYS[3], ARGV[2]) end
each(function() redis.call('HDEL', KEYS[3], take()) end)
each(function() redis.call('XDEL', KEYS[2], take()) end)
return gone
