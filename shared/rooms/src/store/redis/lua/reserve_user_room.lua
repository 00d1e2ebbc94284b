-- Takes one of the places that a user has for rooms of its own making. A place comes back when its room is over.
-- KEYS: 1 rooms of the user, by until when they are kept
-- ARGV: 1 room name, 2 how long it is kept, ms, 3 most rooms
-- Returns 1 if it is taken, or was
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number)
  return string.format('%d', number)
end
local last = now + tonumber(ARGV[2])
local kept = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(now), '+inf', 'WITHSCORES')
local taken = false
for n = 1, #kept, 2 do
  taken = taken or kept[n] == ARGV[1]
  last = math.max(last, tonumber(kept[n + 1]))
end
if not taken and #kept / 2 >= tonumber(ARGV[3]) then return 0 end
for _, over in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now))) do redis.call('ZREM', KEYS[1], over) end
redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[2])), ARGV[1])
redis.call('PEXPIRE', KEYS[1], text(last - now))
return 1
