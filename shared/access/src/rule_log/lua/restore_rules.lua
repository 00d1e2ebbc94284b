-- Restores the rules of a process: writes each rule that the store lacks, or has in an earlier
-- version.
-- KEYS, state: see common.lua
-- ARGV: for each rule its key, its stored text, and a text that it replaces in any case, or ''
-- Returns the state
prune()

-- Whether rule `a` wins over rule `b`, as in `AccessRule::compare_precedence`. Texts are compared
-- byte by byte, because Lua compares them by the locale.
local function wins_over(a, b)
  if a.at ~= b.at then return a.at > b.at end
  if a.ends ~= b.ends then return a.ends > b.ends end
  if a.lifted ~= b.lifted then return a.lifted > b.lifted end
  for i = 1, math.min(#a.terms, #b.terms) do
    local x, y = string.byte(a.terms, i), string.byte(b.terms, i)
    if x ~= y then return x > y end
  end
  return #a.terms > #b.terms
end

for n = 1, #ARGV, 3 do
  local key, restored, replaced = ARGV[n], rule(ARGV[n + 1]), ARGV[n + 2]
  local value = redis.call('HGET', KEYS[1], key) or ''
  local stored = rule(value)
  if restored and restored.keep > now and replaced ~= '' and replaced == value then
    put(key, restored)
  elseif restored and restored.keep > now then
    local keep = math.max(restored.keep, stored and stored.keep or 0)
    local next = (not stored or wins_over(restored, stored)) and restored or stored
    if next == restored or keep ~= stored.keep then
      next.keep = keep
      put(key, next)
    end
  end
end
settle()
return { state() }
