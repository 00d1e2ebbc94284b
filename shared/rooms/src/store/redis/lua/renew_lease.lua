-- Renews the lease of a node, and returns the living and the dead nodes.
-- KEYS: 1 nodes, scored by the end of their leases
-- ARGV: 1 node, 2 lease ms, 3 the longest time for which any data of a node is kept, ms
-- Returns 1 if the node still had a lease, else 0; the living nodes;
--       the dead nodes that are not forgotten yet
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease_end = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], string.format('%d', now + tonumber(ARGV[2])), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local alive = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%d', now), '+inf')
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now))
return { (lease_end and tonumber(lease_end) > now) and 1 or 0, alive, dead }
