-- Reads the state of a peer and a page of its mailbox.
-- KEYS: 1 room hash, 2 the mailbox, 3 shared bodies
-- ARGV: 1 peer, 2 the last seq that the caller has, 3 maximum number of entries,
--       4 number of bytes after which the page ends
-- Returns replication id, 1 if the room exists, owner record or '', tombstone or '',
--       mailbox version, last seq, acknowledged seq, highest accepted id, dropped seq, entries
local exists = heal()
local peer = ARGV[1]
local f = redis.call('HMGET', room,
  'o:' .. peer, 't:' .. peer, 'h:' .. peer, 'a:' .. peer, 'l:' .. peer, 'x:' .. peer)
if not f[1] then return { replication_id, exists and 1 or 0, '', f[2] or '' } end
local _, _, mailbox_version = owner(f[1])
local from = mailbox_version .. '-' .. text(tonumber(ARGV[2]) + 1)
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
return { replication_id, 1, f[1], '', mailbox_version, f[3] or 0, f[4] or 0, f[5] or 0, f[6] or 0, entries }
