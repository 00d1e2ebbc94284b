-- Takes or renews the leases of some partitions, and reads their events.
-- KEYS: for each partition: lease, stream, progress
-- ARGV: 1 this process, 2 lease ms, 3 most entries of each partition,
--       then for each partition: the last entry that was read or '-', '1' to read the progress too
-- Returns {replication id, for each partition: 0 if another process has the lease,
--       else {number of entries, 1 if no process had the lease, entries lost since the last poll,
--       {id, line, endpoint or ''} …, {field, value … of the progress}}}
local replication_id = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local results = { replication_id }
for n = 1, #KEYS / 3 do
  local lease, stream, progress = KEYS[3 * n - 2], KEYS[3 * n - 1], KEYS[3 * n]
  local after, wanted = ARGV[2 * n + 2], ARGV[2 * n + 3]
  local holder = redis.call('GET', lease)
  if holder and holder ~= ARGV[1] then
    results[n + 1] = 0
  else
    redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
    local count, lost, entries = redis.call('XLEN', stream), 0, {}
    if count > 0 then
      lost = tonumber(redis.call('HGET', progress, 'lost') or 0)
      if lost > 0 then redis.call('HDEL', progress, 'lost') end
      for _, entry in ipairs(redis.call('XRANGE', stream, after == '-' and '-' or '(' .. after, '+', 'COUNT', ARGV[3])) do
        entries[#entries + 1] = { entry[1], entry[2][2], entry[2][4] or '' }
      end
    end
    results[n + 1] = { count, holder and 0 or 1, lost, entries, wanted == '1' and redis.call('HGETALL', progress) or {} }
  end
end
return results
