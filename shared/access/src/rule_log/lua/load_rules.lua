-- All rules.
-- KEYS: 1 rules   2 rules by their ends   3 log
-- Returns where the store is, then the hash, flat
local reply = { place() }
for _, field in ipairs(redis.call('HGETALL', KEYS[1])) do reply[#reply + 1] = field end
return reply
