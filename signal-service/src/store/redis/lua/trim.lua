-- Cuts off what is too old in a mailbox.
-- KEYS: 1 room hash, 2 deadlines of the partition, 3 the mailbox
-- ARGV: 1 peer, 2 room name, 3 entry life ms
heal()
local peer, name, life = ARGV[1], ARGV[2], tonumber(ARGV[3])
local value = redis.call('HGET', room, 'o:' .. peer)
if value then
  local _, _, mailbox = owner(value)
  drop_old(peer, mailbox, KEYS[3], life)
else
  redis.call('DEL', KEYS[3])
end
local first = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)[1]
if first then
  redis.call('ZADD', KEYS[2], text(tonumber(first[2][8]) + life), name .. ' ' .. peer)
else
  redis.call('ZREM', KEYS[2], name .. ' ' .. peer)
end
return 1
