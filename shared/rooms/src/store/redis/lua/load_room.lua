-- Reads a room.
-- KEYS: 1 room hash
-- Returns lineage, now, the hash, flat, or nothing where there is none.
heal()
return state()
