-- Writes an invite of a room, and deletes its invites that are past their retention.
-- KEYS: 1 invites of the room
-- ARGV: 1 id, 2 sealed terms, 3 most uses, 4 life ms, 5 most invites of a room, 6 retention ms
-- Returns when the invite expires, ms since 1970; 0 if the room has too many invites
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fields, over, count = redis.call('HGETALL', KEYS[1]), {}, 0
for i = 1, #fields, 2 do
  local id = fields[i]:match('^e:(.*)$')
  if id and tonumber(fields[i + 1]) + ARGV[6] < now then
    for _, kind in ipairs({ 'j:', 'e:', 'm:', 'n:' }) do over[#over + 1] = kind .. id end
  elseif id then
    count = count + 1
  end
end
if count >= tonumber(ARGV[5]) then return 0 end
local ends = now + ARGV[4]
if #over > 0 then redis.call('HDEL', KEYS[1], unpack(over)) end
redis.call('HSET', KEYS[1], 'j:' .. ARGV[1], ARGV[2], 'e:' .. ARGV[1], string.format('%d', ends), 'm:' .. ARGV[1], ARGV[3], 'n:' .. ARGV[1], 0)
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), ARGV[4] + ARGV[6]))
return ends
