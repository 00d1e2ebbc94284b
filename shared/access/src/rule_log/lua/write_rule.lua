-- Writes or lifts one rule.
-- KEYS, state: see common.lua
-- ARGV: 1 rule key, 2 time in force (ms) or '' to lift the rule, 3 terms (JSON),
--       4 maximum number of rules; 0: no maximum
-- Returns 'ok', the state, the stored rule | 'full', the state: there are too many rules
--       | 'none', the state: there is no rule to lift
prune()
local key, lifts = ARGV[1], ARGV[2] == ''
local old = rule(redis.call('HGET', KEYS[1], key))
local answer
if lifts and not (old and old.lifted == 0 and old.ends > now) then
  answer = 'none'
elseif not old and ARGV[4] ~= '0' and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then
  answer = 'full'
end
if answer then return { answer, state() } end
-- The new rule is later than the old one even if the clock has stepped back.
local at = old and math.max(now, old.at + 1) or now
local ends = lifts and old.ends or at + tonumber(ARGV[2])
local keep = old and math.max(ends, old.keep) or ends
local value = put(key, { at = at, ends = ends, keep = keep, lifted = lifts and 1 or 0, terms = ARGV[3] })
settle()
local reply = { 'ok', state() }
reply[#reply + 1] = value
return reply
