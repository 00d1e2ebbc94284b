-- Returns the rooms and mailboxes that are due. An item that is still due is returned again later.
-- KEYS: deadlines of partitions
-- ARGV: 1 maximum number of items of one partition, 2 delay until an item is returned again, ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local names = {}
for _, key in ipairs(KEYS) do
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', string.format('%d', now), 'LIMIT', 0, ARGV[1])) do
    redis.call('ZADD', key, string.format('%d', now + tonumber(ARGV[2])), name)
    names[#names + 1] = name
  end
end
return names
