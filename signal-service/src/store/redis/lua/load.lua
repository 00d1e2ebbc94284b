-- Reads a room.
-- KEYS: 1 room hash
-- Returns the hash, flat, or nothing where there is no room of this lineage.
if redis.call('HGET', room, 'lin') ~= lineage then return false end
return redis.call('HGETALL', room)
