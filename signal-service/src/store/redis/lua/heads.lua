-- How far the mailboxes of some peers have come.
-- KEYS: 1 room hash
-- ARGV: peers
-- Returns for each: owner record or '', head
heal()
local result = {}
for _, peer in ipairs(ARGV) do
  local f = redis.call('HMGET', room, 'o:' .. peer, 'h:' .. peer)
  result[#result + 1] = { f[1] or '', f[2] or 0 }
end
return result
