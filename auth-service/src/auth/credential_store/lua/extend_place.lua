-- Moves the time until which a record is kept, in the lists in which it has a place.
-- KEYS: lists of records, by the time until which they are kept
-- ARGV: 1 record, 2 time for which it is kept from now on, ms
-- Returns the number of lists in which the record has a place
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = 0
for _, key in ipairs(KEYS) do
  if redis.call('ZSCORE', key, ARGV[1]) then
    redis.call('ZADD', key, string.format('%d', now + tonumber(ARGV[2])), ARGV[1])
    local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
    redis.call('PEXPIRE', key, string.format('%d', tonumber(last) - now))
    count = count + 1
  end
end
return count
