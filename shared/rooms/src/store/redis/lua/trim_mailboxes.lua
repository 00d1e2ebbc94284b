-- Deletes entries that are too old from mailboxes of a room. If these are all its mailboxes, the
-- bytes that wait in the room are counted again: the TTL of a mailbox deletes entries uncounted.
-- KEYS: 1 room hash, 2 deadlines of the partition, 3 shared bodies, 4 peers whose mailboxes refer to
--       them, 5… mailboxes
-- ARGV: 1 room name, 2 entry life ms, 3 maximum deletion delay ms,
--       4 version of the room in which these are all mailboxes, or 0,
--       5… peers, one for each mailbox
heal()
local name, entry_life, max_deletion_delay = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local complete_in_version = ARGV[4]
local waiting, charged = 0, {}
local bodies_key, holders_key = KEYS[3], KEYS[4]
for n = 5, #KEYS do
  local peer, mailbox_key = ARGV[n], KEYS[n]
  local member = read_member(peer)
  local first
  if member then
    local fields = drop_old(member, mailbox_key, entry_life)
    first = fields and member.first_at
    if member.holds_bodies == 1 then release_bodies(member, fields, bodies_key, holders_key) end
    waiting = waiting + member.bytes - member.acked_bytes
    for grant, size in string.gmatch(redis.call('HGET', room, 'q:' .. peer) or '', '(%S+) (%d+)') do
      charged['s:' .. grant] = (charged['s:' .. grant] or 0) + tonumber(size)
    end
  else
    redis.call('DEL', mailbox_key)
  end
  local limit = first and first + entry_life + max_deletion_delay
  -- Without a deadline the TTL deletes the mailbox in time.
  if first and now + redis.call('PTTL', mailbox_key) > limit then
    member.due_at, member.is_changed = limit, true
    redis.call('ZADD', KEYS[2], text(limit), name .. ' ' .. peer)
  else
    if member then member.due_at, member.is_changed = 0, true end
    redis.call('ZREM', KEYS[2], name .. ' ' .. peer)
  end
end
save_members()
if complete_in_version == redis.call('HGET', room, 'ver') then
  redis.call('HSET', room, 'wb', text(waiting))
  for _, field in ipairs(redis.call('HKEYS', room)) do
    if string.sub(field, 1, 2) == 's:' and not charged[field] then redis.call('HDEL', room, field) end
  end
  for field, bytes in pairs(charged) do redis.call('HSET', room, field, text(bytes)) end
end
return 1
