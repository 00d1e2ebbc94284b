-- Starts a refresh family.
-- KEYS: 1 family
-- ARGV: 1 salt, 2 digest of the first token, 3 terms (JSON), 4 grant, 5 life of a token ms,
--       6 life of the family ms, 7 retention ms
-- Returns 1, or 0 if the family exists already
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'salt', ARGV[1], 'now', ARGV[2], 'what', ARGV[3], 'grant', ARGV[4], 'uses', 0, 'born', string.format('%d', now),
  'till', string.format('%d', now + math.min(ARGV[5], ARGV[6])), 'end', string.format('%d', now + ARGV[6]))
redis.call('PEXPIRE', KEYS[1], math.min(ARGV[5], ARGV[6]) + ARGV[7])
return 1
