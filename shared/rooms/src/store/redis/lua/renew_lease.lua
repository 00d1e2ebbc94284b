-- Says that a node is alive, and asks who else is.
-- KEYS: 1 nodes, by the end of their leases
-- ARGV: 1 node, 2 lease ms, 3 the longest that anything of a node is kept, ms
-- Returns 1 if the node had a lease until now, else 0; the nodes that are alive; the nodes that are dead and not yet forgotten
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local till = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], string.format('%d', now + tonumber(ARGV[2])), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local alive = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%d', now), '+inf')
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now))
return { (till and tonumber(till) > now) and 1 or 0, alive, dead }
