-- Reads the owner and the last seq of the mailboxes of some peers.
-- KEYS: 1 room hash
-- ARGV: 1… peers, then the four arguments that common.lua describes
-- Returns for each peer: owner record or '', last seq
heal()
local result = {}
for n = 1, #ARGV - 4 do
  local peer = ARGV[n]
  local f = redis.call('HMGET', room, 'o:' .. peer, 'h:' .. peer)
  result[#result + 1] = { f[1] or '', f[2] or 0 }
end
return result
