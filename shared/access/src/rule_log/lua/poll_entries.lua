-- Reads the entries that are newer than the last entry of a process.
-- KEYS, state: see common.lua
-- ARGV: 1 replication id, 2 instance id, 3 number of the last entry that the process has
-- Returns 'same': there is no new entry
--       | 'behind': the log has already deleted entries that the process misses
--       | 'other': this is another log, or an earlier state of it | 'more': there are new entries;
--       each followed by the state; after 'more' the entries, each a flat list of fields
local known = tonumber(ARGV[3])
-- A process that read an empty store has missed no entry of the instance that began since.
local is_same = ARGV[1] == replication_id and (ARGV[2] == instance_id or ARGV[2] == '')
if not is_same or known > number then return { 'other', state() } end
if known == number then return { 'same', state() } end
local entries = redis.call('XRANGE', KEYS[3], text(known + 1) .. '-0', '+')
if #entries ~= number - known then return { 'behind', state() } end
local reply = { 'more', state() }
for _, entry in ipairs(entries) do reply[#reply + 1] = entry[2] end
return reply
