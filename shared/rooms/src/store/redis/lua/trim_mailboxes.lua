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
  local value, holds_bodies = unpack(redis.call('HMGET', room, 'o:' .. peer, 'y:' .. peer))
  local first
  if value then
    local _, _, mailbox_version = owner(value)
    first = drop_old(peer, mailbox_version, mailbox_key, entry_life)
    if holds_bodies then release_bodies(peer, mailbox_key, bodies_key, holders_key) end
    local bytes, acked_bytes, charges =
      unpack(redis.call('HMGET', room, 'b:' .. peer, 'c:' .. peer, 'q:' .. peer))
    waiting = waiting + tonumber(bytes or 0) - tonumber(acked_bytes or 0)
    for grant, size in string.gmatch(charges or '', '(%S+) (%d+)') do
      charged['s:' .. grant] = (charged['s:' .. grant] or 0) + tonumber(size)
    end
  else
    redis.call('DEL', mailbox_key)
  end
  local limit = first and first + entry_life + max_deletion_delay
  -- Without a deadline the TTL deletes the mailbox in time.
  if first and now + redis.call('PTTL', mailbox_key) > limit then
    redis.call('ZADD', KEYS[2], text(limit), name .. ' ' .. peer)
  else
    redis.call('ZREM', KEYS[2], name .. ' ' .. peer)
  end
end
if complete_in_version == redis.call('HGET', room, 'ver') then
  redis.call('HSET', room, 'wb', text(waiting))
  for _, field in ipairs(redis.call('HKEYS', room)) do
    if string.sub(field, 1, 2) == 's:' and not charged[field] then redis.call('HDEL', room, field) end
  end
  for field, bytes in pairs(charged) do redis.call('HSET', room, field, text(bytes)) end
end
return 1
