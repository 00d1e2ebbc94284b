-- Writes back what a process holds, where the store has nothing or something earlier.
-- KEYS: 1 rules   2 rules by their ends   3 log
-- ARGV: key, rule; …
-- Returns where the store is
prune()

-- Whether `a` holds over `b`: as `Rule::order`, to the byte (Lua compares texts by the locale).
local function holds_over(a, b)
  if a.at ~= b.at then return a.at > b.at end
  if a.ends ~= b.ends then return a.ends > b.ends end
  if a.lifted ~= b.lifted then return a.lifted > b.lifted end
  for i = 1, math.min(#a.terms, #b.terms) do
    local x, y = string.byte(a.terms, i), string.byte(b.terms, i)
    if x ~= y then return x > y end
  end
  return #a.terms > #b.terms
end

for n = 1, #ARGV, 2 do
  local key, theirs = ARGV[n], rule(ARGV[n + 1])
  local ours = rule(redis.call('HGET', KEYS[1], key))
  if theirs and theirs.keep > now then
    local keep = math.max(theirs.keep, ours and ours.keep or 0)
    local next = (not ours or holds_over(theirs, ours)) and theirs or ours
    if next == theirs or keep ~= ours.keep then
      next.keep = keep
      put(key, next)
    end
  end
end
settle()
return { place() }
