-- Starts a refresh family.
-- KEYS: 1 family
-- ARGV: 1 sealed terms, 2 digest of the first token, 3 life of a token ms, 4 life of the family ms,
--       5 retention ms
-- Returns 1, or 0 if the family exists already
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'sealed', ARGV[1], 'now', ARGV[2], 'uses', 0,
  'till', string.format('%d', now + math.min(ARGV[3], ARGV[4])), 'end', string.format('%d', now + ARGV[4]))
redis.call('PEXPIRE', KEYS[1], math.min(ARGV[3], ARGV[4]) + ARGV[5])
return 1
