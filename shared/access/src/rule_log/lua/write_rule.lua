-- Writes or lifts one rule. The caller has dated and signed it, so the script checks the date.
-- KEYS, state: see common.lua
-- ARGV: 1 rule key, 2 the rule as it is stored, 3 the rule that it replaces as it is stored, or '',
--       4 maximum number of rules; 0: no maximum
-- Returns 'ok', the state | 'full', the state: there are too many rules
--       | 'changed', the state, the stored rule or '': another rule is stored, or the date is not now
local AHEAD = 1000
prune()
local key, new = ARGV[1], rule(ARGV[2])
local old = redis.call('HGET', KEYS[1], key) or ''
if old ~= ARGV[3] or new.at < now or new.at > now + AHEAD then
  local reply = { 'changed', state() }
  reply[#reply + 1] = old
  return reply
end
if old == '' and ARGV[4] ~= '0' and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then
  return { 'full', state() }
end
put(key, new)
settle()
return { 'ok', state() }
