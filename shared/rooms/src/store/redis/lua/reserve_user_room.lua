-- Reserves a place for a room that a user creates. The place is free again when the room ends.
-- KEYS: 1 rooms of the user, scored by the time until which they are kept
-- ARGV: 1 room name, 2 time for which the room is kept, ms, 3 maximum number of rooms
-- Returns 1 if the room has a place now, else 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number)
  return string.format('%d', number)
end
local last = now + tonumber(ARGV[2])
local reserved = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(now), '+inf', 'WITHSCORES')
local has_place = false
for n = 1, #reserved, 2 do
  has_place = has_place or reserved[n] == ARGV[1]
  last = math.max(last, tonumber(reserved[n + 1]))
end
if not has_place and #reserved / 2 >= tonumber(ARGV[3]) then return 0 end
for _, ended in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now))) do
  redis.call('ZREM', KEYS[1], ended)
end
redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[2])), ARGV[1])
redis.call('PEXPIRE', KEYS[1], text(last - now))
return 1
