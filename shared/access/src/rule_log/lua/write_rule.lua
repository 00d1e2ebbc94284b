-- Writes one rule, or lifts it.
-- KEYS: 1 rules   2 rules by their ends   3 log
-- ARGV: 1 key, 2 how long it is in force (ms), or nothing: it is lifted, 3 terms, 4 how many rules there may be; 0 is any number
-- Returns 'ok', where the store is (lineage, now, life, number), the rule as it is stored | 'full', … | 'none', …: there is nothing to lift
prune()
local key, lifts = ARGV[1], ARGV[2] == ''
local old = rule(redis.call('HGET', KEYS[1], key))
local answer
if lifts and not (old and old.lifted == 0 and old.ends > now) then
  answer = 'none'
elseif not old and ARGV[4] ~= '0' and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then
  answer = 'full'
end
if answer then return { answer, place() } end
-- Later than the one before even if the clock stepped back.
local at = old and math.max(now, old.at + 1) or now
local ends = lifts and old.ends or at + tonumber(ARGV[2])
local keep = old and math.max(ends, old.keep) or ends
local value = put(key, { at = at, ends = ends, keep = keep, lifted = lifts and 1 or 0, terms = ARGV[3] })
settle()
local reply = { 'ok', place() }
reply[#reply + 1] = value
return reply
