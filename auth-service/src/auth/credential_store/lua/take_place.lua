-- Takes a place for a record in the lists that count it. The place is free again when the retention
-- of the record ends.
-- KEYS: 1 records of a root or an API key, by the time until which they are kept;
--       2 (or none) the records among them of one user
-- ARGV: 1 record, 2 time for which it is kept ms, 3 most records of the first list,
--       4 most records of the user
-- Returns {0} if the first list has no place; else {1, records of the user that the new one replaces:
--       those that would expire first …}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number)
  return string.format('%d', number)
end
for _, key in ipairs(KEYS) do
  for _, ended in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', text(now))) do
    redis.call('ZREM', key, ended)
  end
end
local replaced = {}
if KEYS[2] then
  local excess = redis.call('ZCARD', KEYS[2]) + 1 - tonumber(ARGV[4])
  if excess > 0 then replaced = redis.call('ZRANGE', KEYS[2], 0, excess - 1) end
end
if #replaced == 0 and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return { 0 } end
local result = { 1 }
for _, record in ipairs(replaced) do
  for _, key in ipairs(KEYS) do redis.call('ZREM', key, record) end
  result[#result + 1] = record
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, text(now + tonumber(ARGV[2])), ARGV[1])
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIRE', key, text(tonumber(last) - now))
end
return result
