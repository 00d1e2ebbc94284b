-- Writes the outcomes of events, if this process still has the lease. A repeated call may write a
-- dead letter twice; the rest of it has no further effect.
-- KEYS: 1 lease, 2 stream, 3 progress, 4 dead letters
-- ARGV: 1 this process, 2 life of the progress ms, 3 most dead letters, 4 life of a dead letter ms,
--       then lists, each with its count first:
--       dead letters: endpoint, cause, attempts, failure of the last attempt, line
--       progress: field '<entry> <endpoint>', attempts or 'd' (done)
--       progress to delete: field
--       finished entries: id
-- Returns -1 if another process has the lease, else the number of old dead letters dropped
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local at = 5
local function take()
  at = at + 1
  return ARGV[at - 1]
end
local function each(action)
  for _ = 1, tonumber(take()) do action() end
end
local time = redis.call('TIME')
local oldest = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[4]))
-- Drops the letters beyond the bound: of the root that has most, those of its room that has most, the
-- oldest first. So neither a tenant nor a room pushes out the letters of another. It looks at the
-- oldest thousand and as many as must go.
local function drop_excess(excess)
  local of_room, by_rank, of_root, by_share = {}, {}, {}, {}
  local letters = redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', excess + 1000)
  for n = #letters, 1, -1 do
    local line = letters[n][2][2]
    local room = string.match(line, '"room":"([^"]*)"') or ''
    local rank = (of_room[room] or 0) + 1
    of_room[room], by_rank[rank] = rank, by_rank[rank] or {}
    table.insert(by_rank[rank], { letters[n][1], string.match(line, '"root":"([^"]*)"') or room })
  end
  for rank = 1, #by_rank do
    for _, letter in ipairs(by_rank[rank]) do
      local share = (of_root[letter[2]] or 0) + 1
      of_root[letter[2]], by_share[share] = share, by_share[share] or {}
      table.insert(by_share[share], letter[1])
    end
  end
  local ids = {}
  for share = #by_share, 1, -1 do
    for n = #by_share[share], 1, -1 do
      if #ids < excess then ids[#ids + 1] = by_share[share][n] end
    end
  end
  for _, id in ipairs(ids) do redis.call('XDEL', KEYS[4], id) end
end
local dropped, has_dead_letters = 0, false
each(function()
  local endpoint, cause, attempts, last, line = take(), take(), take(), take(), take()
  redis.call('XADD', KEYS[4], '*', 'd', line, 'e', endpoint, 'c', cause, 'n', attempts, 'l', last)
  has_dead_letters = true
end)
if has_dead_letters then
  redis.call('XTRIM', KEYS[4], 'MINID', oldest)
  dropped = math.max(redis.call('XLEN', KEYS[4]) - tonumber(ARGV[3]), 0)
  if dropped > 0 then drop_excess(dropped) end
  redis.call('PEXPIRE', KEYS[4], ARGV[4])
end
local has_progress = false
each(function()
  redis.call('HSET', KEYS[3], take(), take())
  has_progress = true
end)
if has_progress then redis.call('PEXPIRE', KEYS[3], ARGV[2]) end
each(function() redis.call('HDEL', KEYS[3], take()) end)
each(function() redis.call('XDEL', KEYS[2], take()) end)
return dropped
