-- Reads all rules.
-- KEYS, state: see common.lua
-- Returns the state, then the hash (flat)
local reply = { state() }
for _, field in ipairs(redis.call('HGETALL', KEYS[1])) do reply[#reply + 1] = field end
return reply
