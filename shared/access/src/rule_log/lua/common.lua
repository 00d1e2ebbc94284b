-- Functions and values that all rule scripts share.
-- KEYS: 1 rules, a hash:
--         <key> "<written at> <in force until> <remembered until> <lifted> <signature> <terms>";
--         `:life` instance id of the hash; `:n` number of the last entry of the log
--       2 rule keys, scored by the time until which the rules are remembered
--       3 the log, a stream: entry N-0 is the Nth
-- State, which each script returns: replication id, now, instance id, number of the last entry
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replication_id = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local head = redis.call('HMGET', KEYS[1], ':life', ':n')
local instance_id, number = head[1] or '', tonumber(head[2] or '0')

-- Formats a number beyond 2^31.
local function text(n) return string.format('%.0f', n) end

-- Returns the state.
local function state() return replication_id, text(now), instance_id, text(number) end

-- Parses a stored rule. A script cannot verify the signature; each process does.
local function rule(value)
  local at, ends, keep, lifted, signature, terms =
    string.match(value or '', '^(%d+) (%d+) (%d+) ([01]) (%S+) (.*)$')
  if not at then return nil end
  return {
    at = tonumber(at), ends = tonumber(ends), keep = tonumber(keep), lifted = tonumber(lifted),
    signature = signature, terms = terms,
  }
end

-- The number of entries that the log keeps, and their life in ms. A reader that has missed more
-- reads all rules.
local ENTRIES, AGE = 1024, 600000

-- Appends an entry to the log.
local function append(...)
  if instance_id == '' then
    -- No rules are stored: a new instance begins, and earlier entry numbers are meaningless.
    redis.call('DEL', KEYS[2], KEYS[3])
    instance_id = text(time[1] * 1000000 + time[2])
    redis.call('HSET', KEYS[1], ':life', instance_id)
  end
  number = number + 1
  redis.call('HSET', KEYS[1], ':n', text(number))
  redis.call('XADD', KEYS[3], 'MAXLEN', ENTRIES, text(number) .. '-0', 't', text(now), ...)
end

-- Stores a rule and appends it to the log. Returns the stored text.
local function put(key, r)
  local value = text(r.at) .. ' ' .. text(r.ends) .. ' ' .. text(r.keep) .. ' ' .. r.lifted .. ' '
    .. r.signature .. ' ' .. r.terms
  append('k', key, 'v', value)
  redis.call('HSET', KEYS[1], key, value)
  redis.call('ZADD', KEYS[2], text(r.keep), key)
  return value
end

-- Deletes some of the rules that need not be remembered any more.
local function prune()
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', text(now), 'LIMIT', 0, 512)) do
    redis.call('HDEL', KEYS[1], key)
    redis.call('ZREM', KEYS[2], key)
  end
end

-- Sets the TTL of each key. Every write ends with this call.
local function settle()
  local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
  -- One hour more, so that a step of the clock deletes no rule. Rules live for at most 31 days.
  local left = math.min(math.max((tonumber(last or '0') - now), 0), 2678400000) + 3600000
  redis.call('PEXPIRE', KEYS[1], text(left))
  redis.call('PEXPIRE', KEYS[2], text(left))
  redis.call('PEXPIRE', KEYS[3], AGE)
  local last_old
  for _, entry in ipairs(redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 64)) do
    if tonumber(entry[2][2]) >= now - AGE then break end
    last_old = tonumber(string.match(entry[1], '^%d+'))
  end
  if last_old then redis.call('XTRIM', KEYS[3], 'MINID', text(last_old + 1) .. '-0') end
end
