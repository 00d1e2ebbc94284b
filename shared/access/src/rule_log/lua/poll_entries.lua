-- What is new since a process looked last.
-- KEYS: 1 rules   2 rules by their ends   3 log
-- ARGV: 1 lineage, 2 life, 3 number of the last entry that it has
-- Returns 'same' | 'behind': more was missed than the log holds | 'other': this is not the store it knew, or an earlier state of it
--         | 'more', each with where the store is; after 'more' the entries, each a flat list of fields
local known = tonumber(ARGV[3])
-- Who knows a store without a life has missed nothing of the one that has begun since.
local is_same = ARGV[1] == lineage and (ARGV[2] == life or ARGV[2] == '')
if not is_same or known > number then return { 'other', place() } end
if known == number then return { 'same', place() } end
local entries = redis.call('XRANGE', KEYS[3], text(known + 1) .. '-0', '+')
if #entries ~= number - known then return { 'behind', place() } end
local reply = { 'more', place() }
for _, entry in ipairs(entries) do reply[#reply + 1] = entry[2] end
return reply
