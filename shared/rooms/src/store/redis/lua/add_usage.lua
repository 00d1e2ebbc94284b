-- Adds what a node has counted on a day, unless it has been added.
-- KEYS: 1 the day's hash: n:<node> its last batch · pairs how many are counted apart · j:<caller> <room> joins · m:<caller> <room> milliseconds
-- ARGV: 1 node, 2 number of the batch, 3 most pairs, 4 kept ms, then for each pair: caller, room, joins, ms
-- A batch is one read and one write, however many pairs it has.
local day, node, most = KEYS[1], 'n:' .. ARGV[1], tonumber(ARGV[3])
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

local pairs_known, changed = known['pairs'] or 0, {}
local function add(field, amount)
  known[field] = (known[field] or 0) + amount
  changed[field] = true
end
for n = 5, #ARGV, 4 do
  local pair = ARGV[n] .. ' ' .. ARGV[n + 1]
  if not known['j:' .. pair] then
    if pairs_known >= most then
      pair = ARGV[n] .. ' ~other'
    else
      pairs_known = pairs_known + 1
    end
  end
  add('j:' .. pair, tonumber(ARGV[n + 2]))
  add('m:' .. pair, tonumber(ARGV[n + 3]))
end
known['pairs'] = pairs_known
changed['pairs'] = true
local writes = { node, ARGV[2] }
for field in pairs(changed) do
  writes[#writes + 1] = field
  -- Lua's own would round.
  writes[#writes + 1] = string.format('%d', known[field])
end
redis.call('HSET', day, unpack(writes))
redis.call('PEXPIRE', day, ARGV[4])
return 1
