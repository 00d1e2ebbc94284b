-- Replaces a refresh token by its successor. Every check precedes the first write.
-- KEYS: 1 family
-- ARGV: 1 digest of the presented token, 2 digest of its successor,
--       3 how long the same token may be presented again ms, 4 life of the successor ms,
--       5 retention ms
-- Returns {'unknown'} | {'expired'}
--       | {'reused', 1 if this use revoked the family, ms until the family would have ended}
--       | {'next', number of this use, ms until the successor expires}
local family = redis.call('HMGET', KEYS[1], 'now', 'before', 'at', 'till', 'end', 'dead')
if not family[5] then return { 'unknown' } end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = math.max(tonumber(family[5]) - now, 0)
if family[6] then return { 'reused', 0, left } end
local presented, successor = ARGV[1], ARGV[2]
local is_repeat = family[2] == presented and family[1] == successor and now - tonumber(family[3]) <= tonumber(ARGV[3])
if family[1] ~= presented and not is_repeat then
  -- The token was used before, or it was never issued. The rightful client cannot be told from a
  -- thief, so the family ends for both.
  redis.call('HSET', KEYS[1], 'dead', 1)
  redis.call('HDEL', KEYS[1], 'now', 'before')
  redis.call('PEXPIRE', KEYS[1], left + ARGV[5])
  return { 'reused', 1, left }
end
if now >= tonumber(family[4]) then return { 'expired' } end
local uses = redis.call('HINCRBY', KEYS[1], 'uses', 1)
if is_repeat then return { 'next', uses, tonumber(family[4]) - now } end
local life = math.min(tonumber(ARGV[4]), left)
redis.call('HSET', KEYS[1], 'before', presented, 'now', successor, 'at', string.format('%d', now), 'till', string.format('%d', now + life))
redis.call('PEXPIRE', KEYS[1], life + ARGV[5])
return { 'next', uses, life }
