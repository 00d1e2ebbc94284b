-- Gives a peer a new mailbox version, because a node lost entries of the peer outside the store.
-- The node that owns the peer then resyncs it.
-- KEYS: 1 room hash
-- ARGV: 1 peer, 2 room name, 3 topic prefix
heal()
local value = redis.call('HGET', room, 'o:' .. ARGV[1])
if not value then return 0 end
renew(ARGV[1])
local node = owner(value)
if node ~= '-' then redis.call('SPUBLISH', ARGV[3] .. node, '!' .. ARGV[2] .. ' ' .. ARGV[1]) end
return 1
