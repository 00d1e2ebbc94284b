-- Which rooms have a deadline that has come. Each is looked at again a little later, should nobody finish it now.
-- KEYS: 1 deadlines of the partition
-- ARGV: 1 most rooms, 2 that little, ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local rooms = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now), 'LIMIT', 0, ARGV[1])
for _, name in ipairs(rooms) do
  redis.call('ZADD', KEYS[1], string.format('%d', now + tonumber(ARGV[2])), name)
end
return rooms
