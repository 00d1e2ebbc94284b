-- Releases the leases that this process has.
-- KEYS: leases
-- ARGV: 1 this process
-- Returns 1
for _, lease in ipairs(KEYS) do
  if redis.call('GET', lease) == ARGV[1] then redis.call('DEL', lease) end
end
return 1
