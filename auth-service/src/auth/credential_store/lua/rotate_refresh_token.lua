-- Takes a refresh token and puts its successor in its place. Every check precedes the first write.
-- KEYS: 1 the family
-- ARGV: 1 digest of the token that is shown, 2 digest of its successor, 3 how long the same token may be shown again, ms, 4 life of the
--       successor, ms, 5 slack, ms
-- Returns {'unknown'} | {'expired'} | {'reused', 1 if this was noticed now, ms until the family would have ended}
--       | {'next', number of this use, ms until the successor expires}
local family = redis.call('HMGET', KEYS[1], 'now', 'before', 'at', 'till', 'end', 'dead')
if not family[5] then return { 'unknown' } end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = math.max(tonumber(family[5]) - now, 0)
if family[6] then return { 'reused', 0, left } end
local shown, successor = ARGV[1], ARGV[2]
local again = family[2] == shown and family[1] == successor and now - tonumber(family[3]) <= tonumber(ARGV[3])
if family[1] ~= shown and not again then
  -- Somebody has a token that was used before, or one that nobody gave: which of the two users is the right one cannot be told.
  redis.call('HSET', KEYS[1], 'dead', 1)
  redis.call('HDEL', KEYS[1], 'what', 'now', 'before')
  redis.call('PEXPIRE', KEYS[1], left + ARGV[5])
  return { 'reused', 1, left }
end
if now >= tonumber(family[4]) then return { 'expired' } end
local uses = redis.call('HINCRBY', KEYS[1], 'uses', 1)
if again then return { 'next', uses, tonumber(family[4]) - now } end
local life = math.min(tonumber(ARGV[4]), left)
redis.call('HSET', KEYS[1], 'before', shown, 'now', successor, 'at', string.format('%d', now), 'till', string.format('%d', now + life))
redis.call('PEXPIRE', KEYS[1], life + ARGV[5])
return { 'next', uses, life }
