-- Gives a peer a new mailbox version, because a node lost entries of the peer outside the store.
-- The node that owns the peer then resyncs it.
-- KEYS: 1 room hash
-- ARGV: 1 peer, 2 room name
heal()
local member = read_member(ARGV[1])
if not member then return 0 end
renew(member)
save_members()
if member.node ~= '-' then redis.call('SPUBLISH', node_topics .. member.node, '!' .. ARGV[2] .. ' ' .. ARGV[1]) end
return 1
