-- Reads a room.
-- KEYS: 1 room hash
-- Returns replication id, now, the hash (flat; empty if there is no room)
heal()
return state()
