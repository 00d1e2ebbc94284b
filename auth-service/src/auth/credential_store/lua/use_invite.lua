-- Uses an invite once.
-- KEYS: 1 invites of the room
-- ARGV: 1 id
-- Returns {'unknown'} | {'expired'} | {'used_up'} | {'ok', sealed terms, uses with this one}
local invite = redis.call('HMGET', KEYS[1], 'j:' .. ARGV[1], 'e:' .. ARGV[1], 'm:' .. ARGV[1], 'n:' .. ARGV[1])
if not invite[1] then return { 'unknown' } end
local time = redis.call('TIME')
if time[1] * 1000 + math.floor(time[2] / 1000) >= tonumber(invite[2]) then return { 'expired' } end
if tonumber(invite[4]) >= tonumber(invite[3]) then return { 'used_up' } end
return { 'ok', invite[1], redis.call('HINCRBY', KEYS[1], 'n:' .. ARGV[1], 1) }
