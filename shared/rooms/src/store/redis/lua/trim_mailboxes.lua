-- Deletes entries that are too old from mailboxes of a room.
-- KEYS: 1 room hash, 2 deadlines of the partition, 3… mailboxes
-- ARGV: 1 room name, 2 entry life ms, 3 maximum deletion delay ms,
--       4… peers, one for each mailbox
heal()
local name, entry_life, max_deletion_delay = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
for n = 3, #KEYS do
  local peer, mailbox_key = ARGV[n + 1], KEYS[n]
  local value = redis.call('HGET', room, 'o:' .. peer)
  local first
  if value then
    local _, _, mailbox_version = owner(value)
    first = drop_old(peer, mailbox_version, mailbox_key, entry_life)
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
return 1
