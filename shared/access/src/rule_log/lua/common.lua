-- What every script of the rules begins with.
-- KEYS: 1 rules, a hash: key → `AT UNTIL KEEP LIFTED TERMS`; `:life`, which names this life of the hash; `:n`, the number of the latest entry of the log
--       2 rules by the moment until when they are remembered   3 the log, a stream: entry N-0 is the Nth
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lineage = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local head = redis.call('HMGET', KEYS[1], ':life', ':n')
local life, number = head[1] or '', tonumber(head[2] or '0')

-- A number beyond 2^31 as text.
local function text(n) return string.format('%.0f', n) end

-- Where the store is: returned by each script.
local function place() return lineage, text(now), life, text(number) end

-- A rule as it is stored.
local function rule(value)
  if not value then return nil end
  local at, ends, keep, lifted, terms = string.match(value, '^(%d+) (%d+) (%d+) ([01]) (.*)$')
  return { at = tonumber(at), ends = tonumber(ends), keep = tonumber(keep), lifted = tonumber(lifted), terms = terms }
end

-- The log: so many entries, so long (milliseconds). Who has missed more reads all rules.
local ENTRIES, AGE = 1024, 600000

local function note(...)
  if life == '' then
    -- Nothing is remembered: another life begins, and numbers that were given before mean nothing.
    redis.call('DEL', KEYS[2], KEYS[3])
    life = text(time[1] * 1000000 + time[2])
    redis.call('HSET', KEYS[1], ':life', life)
  end
  number = number + 1
  redis.call('HSET', KEYS[1], ':n', text(number))
  redis.call('XADD', KEYS[3], 'MAXLEN', ENTRIES, text(number) .. '-0', 't', text(now), ...)
end

local function put(key, r)
  local value = text(r.at) .. ' ' .. text(r.ends) .. ' ' .. text(r.keep) .. ' ' .. r.lifted .. ' ' .. r.terms
  note('k', key, 'v', value)
  redis.call('HSET', KEYS[1], key, value)
  redis.call('ZADD', KEYS[2], text(r.keep), key)
  return value
end

-- Forgets what is over, some of it.
local function prune()
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', text(now), 'LIMIT', 0, 512)) do
    redis.call('HDEL', KEYS[1], key)
    redis.call('ZREM', KEYS[2], key)
  end
end

-- After a write: how long each key is kept.
local function settle()
  local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
  -- An hour more, so that a clock that steps takes nothing; at most 31 days of it.
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
