-- Removes a room from the rooms of a dead node, unless the node owns a peer of the room again.
-- KEYS: 1 room hash, 2 rooms of the node
-- ARGV: 1 room name, 2 node
heal()
local fields = redis.call('HGETALL', room)
for n = 1, #fields, 2 do
  if string.sub(fields[n], 1, 2) == 'o:' and owner(fields[n + 1]) == ARGV[2] then return 0 end
end
return redis.call('SREM', KEYS[2], ARGV[1])
