-- Appends steps of pairs of peers to the timeline of their room.
-- KEYS: 1 the timeline, a hash: pair → `<first user> <second user> <root>`, then a line for each step,
--         `<time ms> <place of its peer in the pair> <JSON>`; `?` is an unknown user
--       · 2 the pairs, `<pair> <root>`, scored by the time of their last write
-- ARGV: 1 retention ms, 2 maximum number of pairs, 3 maximum number of steps of a pair, then for each
--       pair: pair, root, first user, second user, number of its steps, then for each step: age ms, the
--       rest of its line
local timeline, by_time = KEYS[1], KEYS[2]
local retention, max_pairs, max_steps = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number)
  return string.format('%d', number)
end

local function drop_pair(member)
  redis.call('ZREM', by_time, member)
  redis.call('HDEL', timeline, string.match(member, '^%S+'))
end

-- Drops the oldest pair of the root that has most, so that a root with few pairs keeps them.
local function make_place()
  local count, oldest, most = {}, {}, nil
  for _, member in ipairs(redis.call('ZRANGE', by_time, 0, -1)) do
    local root = string.match(member, '^%S+ (.*)$')
    count[root] = (count[root] or 0) + 1
    oldest[root] = oldest[root] or member
    if not most or count[root] > count[most] then most = root end
  end
  if most then drop_pair(oldest[most]) end
end

-- Drops the oldest line of the peer that has most, until few enough are left.
local function drop_surplus(lines)
  local count = { ['0'] = 0, ['1'] = 0 }
  local function place_of(line)
    return string.match(line, '^%d+ (%d)')
  end
  for _, line in ipairs(lines) do count[place_of(line)] = count[place_of(line)] + 1 end
  while #lines > max_steps do
    local place = count['0'] > count['1'] and '0' or '1'
    local n = 1
    while place_of(lines[n]) ~= place do n = n + 1 end
    table.remove(lines, n)
    count[place] = count[place] - 1
  end
end

for _, member in ipairs(redis.call('ZRANGEBYSCORE', by_time, '-inf', text(now - retention))) do
  drop_pair(member)
end

local n = 4
while n <= #ARGV do
  local pair, root, first, second, step_count = ARGV[n], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3], tonumber(ARGV[n + 4])
  local stored, lines = redis.call('HGET', timeline, pair), {}
  if stored then
    local known_first, known_second, known_root, rest = string.match(stored, '^(%S+) (%S+) ([^\n]+)(.*)$')
    root = known_root
    if first == '?' then first = known_first end
    if second == '?' then second = known_second end
    for line in string.gmatch(rest, '[^\n]+') do
      if tonumber(string.match(line, '^%d+')) > now - retention then lines[#lines + 1] = line end
    end
  else
    -- Two, so that a lowered limit takes effect.
    for _ = 1, math.min(2, redis.call('ZCARD', by_time) - max_pairs + 1) do make_place() end
  end
  for step = 1, step_count do
    local at = n + 3 + 2 * step
    lines[#lines + 1] = text(now - tonumber(ARGV[at])) .. ' ' .. ARGV[at + 1]
  end
  drop_surplus(lines)
  local head = first .. ' ' .. second .. ' ' .. root .. '\n'
  redis.call('HSET', timeline, pair, head .. table.concat(lines, '\n'))
  redis.call('ZADD', by_time, text(now), pair .. ' ' .. root)
  n = n + 5 + 2 * step_count
end
redis.call('PEXPIRE', timeline, text(retention))
redis.call('PEXPIRE', by_time, text(retention))
return 1
