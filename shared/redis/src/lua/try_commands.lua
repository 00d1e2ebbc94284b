-- Tries commands and changes nothing, because a script that only reads may not write.
-- ARGV: for each command: the number of its words, then its words
-- Returns for each command that the user may not run: its number, the reason
local refused, n, number = {}, 1, 1
while ARGV[n] do
  local count = tonumber(ARGV[n])
  local reply = redis.pcall(unpack(ARGV, n + 1, n + count))
  local reason = type(reply) == 'table' and reply.err or ''
  -- Redis 7.0 has the first three texts, later releases the others.
  for _, part in ipairs({ "can't run this command", "can't access at least one", "can't publish to",
    'ACL failure', 'NOPERM', 'no permissions' }) do
    if string.find(reason, part, 1, true) then
      refused[#refused + 1] = { number, reason }
      break
    end
  end
  n, number = n + count + 1, number + 1
end
return refused
