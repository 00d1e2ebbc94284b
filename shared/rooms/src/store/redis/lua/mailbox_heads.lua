-- Reads the owner and the last seq of the mailboxes of some peers.
-- KEYS: 1 room hash
-- ARGV: 1… peers, then the five arguments that common.lua describes
-- Returns for each peer: owner record or '', last seq
heal()
local result = {}
for n = 1, #ARGV - 5 do
  local member = read_member(ARGV[n])
  if member then
    local owner_value = member.node .. ' ' .. member.epoch .. ' ' .. member.mailbox_version
    result[#result + 1] = { owner_value, text(member.last_seq) }
  else
    result[#result + 1] = { '', 0 }
  end
end
return result
