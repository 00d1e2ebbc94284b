-- Gives leases up.
-- KEYS: leases · ARGV: 1 this process
for _, lease in ipairs(KEYS) do
  if redis.call('GET', lease) == ARGV[1] then redis.call('DEL', lease) end
end
return 1
