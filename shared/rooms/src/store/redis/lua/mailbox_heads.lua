-- How far the mailboxes of some peers have come.
-- KEYS: 1 room hash
-- ARGV: 1… peers
-- Returns for each: owner record or '', head
heal()
local result = {}
for n = 1, #ARGV - 3 do
  local peer = ARGV[n]
  local f = redis.call('HMGET', room, 'o:' .. peer, 'h:' .. peer)
  result[#result + 1] = { f[1] or '', f[2] or 0 }
end
return result
