-- Gives a peer a new mailbox version after entries may have been lost. Returns where the mailbox
-- continues, and the room at that moment.
-- KEYS: 1 room hash
-- ARGV: 1 peer, 2 node, 3 epoch, 4 mailbox version that the caller gives up,
--       5 highest message id that the caller knows to be accepted,
--       6 ids of the peer that the caller knows to be refused, as in the field r
-- Returns nothing if the caller does not own the peer
--       | mailbox version, the seq before its first entry, highest accepted id,
--         refused ids as in the field r, replication id, now, the hash (flat)
if not heal() then return false end
local peer = ARGV[1]
local member = read_member(peer)
if not member or member.node ~= ARGV[2] or member.epoch ~= ARGV[3] then return false end
-- Another call may have renewed it. The owner has not read from the new version.
if member.mailbox_version == ARGV[4] then renew(member) end
member.last_id, member.is_changed = math.max(member.last_id, tonumber(ARGV[5])), true
keep_refused(peer, parse_refused(ARGV[6]), 0, member.last_id)
save_members()
local refused = redis.call('HGET', room, 'r:' .. peer) or ''
return { member.mailbox_version, text(member.acked_seq), text(member.last_id), refused, unpack(state()) }
