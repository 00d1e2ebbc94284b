-- Adds a batch of usage that a node has counted on a day. A batch that was added before is ignored.
-- KEYS: 1 the hash of the day: n:<node> number of its last batch · pairs number of pairs
--       · j:<caller> <room> joins · m:<caller> <room> connected milliseconds
-- ARGV: 1 node, 2 number of the batch, 3 maximum number of pairs, 4 retention ms,
--       then for each pair: caller, room, joins, ms
-- Usage beyond the maximum is added to the room `~other` of its caller.
-- A batch takes one read and one write, however many pairs it has.
local day, node, max_pairs = KEYS[1], 'n:' .. ARGV[1], tonumber(ARGV[3])
if tonumber(ARGV[2]) <= tonumber(redis.call('HGET', day, node) or 0) then return 0 end

local fields = { 'pairs' }
for n = 5, #ARGV, 4 do
  local own, other = ARGV[n] .. ' ' .. ARGV[n + 1], ARGV[n] .. ' ~other'
  for _, pair in ipairs({ own, other }) do
    fields[#fields + 1] = 'j:' .. pair
    fields[#fields + 1] = 'm:' .. pair
  end
end
local known = {}
for n, value in ipairs(redis.call('HMGET', day, unpack(fields))) do known[fields[n]] = tonumber(value or nil) end

local pair_count, changed = known['pairs'] or 0, {}
local function add(field, amount)
  known[field] = (known[field] or 0) + amount
  changed[field] = true
end
for n = 5, #ARGV, 4 do
  local pair = ARGV[n] .. ' ' .. ARGV[n + 1]
  if not known['j:' .. pair] then
    if pair_count >= max_pairs then
      pair = ARGV[n] .. ' ~other'
    else
      pair_count = pair_count + 1
    end
  end
  add('j:' .. pair, tonumber(ARGV[n + 2]))
  add('m:' .. pair, tonumber(ARGV[n + 3]))
end
known['pairs'] = pair_count
changed['pairs'] = true
local writes = { node, ARGV[2] }
for field in pairs(changed) do
  writes[#writes + 1] = field
  -- The default conversion would round large numbers.
  writes[#writes + 1] = string.format('%d', known[field])
end
redis.call('HSET', day, unpack(writes))
redis.call('PEXPIRE', day, ARGV[4])
return 1
