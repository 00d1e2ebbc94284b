-- Reserves a place for a room that a user or an API key creates. The place is free again when the room ends.
-- KEYS: 1 rooms of the creator, scored by the time until which they are kept
-- ARGV: 1 room name, 2 time for which the room is kept, ms, 3 maximum number of rooms
-- Returns 1 if the room has a place now, else 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number)
  return string.format('%d', number)
end
for _, ended in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now))) do
  redis.call('ZREM', KEYS[1], ended)
end
local has_place = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not has_place and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[2])), ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
redis.call('PEXPIRE', KEYS[1], text(tonumber(last) - now))
return 1
