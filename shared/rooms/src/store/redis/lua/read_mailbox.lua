-- Reads the state of a peer and a page of its mailbox.
-- KEYS: 1 room hash, 2 the mailbox, 3 shared bodies
-- ARGV: 1 peer, 2 the last seq that the caller has, 3 maximum number of entries,
--       4 number of bytes after which the page ends
-- Returns replication id, 1 if the room exists, owner record or '', tombstone or '',
--       mailbox version, last seq, acknowledged seq, highest accepted id, dropped seq,
--       refused ids as in the field r, entries
local exists = heal()
local peer = ARGV[1]
local owner_value, packed, tombstone, dropped_seq, refused =
  unpack(redis.call('HMGET', room, 'o:' .. peer, 'm:' .. peer, 't:' .. peer, 'x:' .. peer, 'r:' .. peer))
if not owner_value then
  -- Whether the peer has left or was lost depends on the replication id.
  ask_replication_id()
  return { replication_id, exists and 1 or 0, '', tombstone or '' }
end
local member = add_member(peer, owner_value, packed)
local mailbox_version = member.mailbox_version
local from = mailbox_version .. '-' .. text(math.max(tonumber(ARGV[2]), member.acked_seq) + 1)
local page = redis.call('XRANGE', KEYS[2], from, mailbox_version .. '-18446744073709551615', 'COUNT', ARGV[3])
local bytes, entries = 0, {}
for _, entry in ipairs(page) do
  if bytes >= tonumber(ARGV[4]) then break end
  local fields, shared_body = entry[2], entry[2][18]
  if shared_body then
    local found = redis.call('XRANGE', KEYS[3], shared_body, shared_body)[1]
    -- A shared body lives at least as long as its entries. Without it the entry counts as expired.
    fields[12] = found and found[2][4]
  end
  if fields[12] then
    bytes = bytes + #fields[12]
    entries[#entries + 1] = entry
  end
end
return { replication_id, 1, owner_value, '', mailbox_version, text(member.last_seq), text(member.acked_seq),
  text(member.last_id), dropped_seq or 0, refused or '', entries }
