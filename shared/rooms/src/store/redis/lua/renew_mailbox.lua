-- Gives a peer a new mailbox version after entries may have been lost. Returns where the mailbox
-- continues, and the room at that moment.
-- KEYS: 1 room hash
-- ARGV: 1 peer, 2 node, 3 epoch, 4 mailbox version that the caller gives up,
--       5 highest message id that the caller knows to be accepted
-- Returns nothing if the caller does not own the peer
--       | mailbox version, the seq before its first entry, highest accepted id,
--         replication id, now, the hash (flat)
if not heal() then return false end
local peer = ARGV[1]
local value = redis.call('HGET', room, 'o:' .. peer)
if not value then return false end
local node, epoch, mailbox_version = owner(value)
if node ~= ARGV[2] or epoch ~= ARGV[3] then return false end
local seq
if mailbox_version == ARGV[4] then
  mailbox_version, seq = renew(peer)
else
  -- Another call has renewed it, and the owner has not read from the new version.
  seq = redis.call('HGET', room, 'a:' .. peer) or '0'
end
local last = redis.call('HGET', room, 'l:' .. peer) or '0'
if tonumber(ARGV[5]) > tonumber(last) then
  last = ARGV[5]
  redis.call('HSET', room, 'l:' .. peer, last)
end
return { mailbox_version, seq, last, unpack(state()) }
