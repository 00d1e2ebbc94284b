-- Applies a change of membership if the room is still where it was decided on, and tells the others. All or nothing.
-- KEYS: 1 room hash, 2… mailboxes
-- ARGV: 1 incarnation, 2 version (0: the room must not exist), 3 node, 4 room name, 5 topic prefix, 6 feed topic,
--       7 stream bound, 8 entry life ms, 9 room life ms, 10 '1' if nobody is left, then four lists, each with its count first:
--       members to write: peer, record, "<node> <epoch>"; members to remove: peer, index in KEYS;
--       accepted ids: peer, id; events: about, kind, body, number of targets, then for each target: peer, index in KEYS;
--       and last the feed lines, count first
-- Returns {'ok', peer, epoch, seq, … per event (this node's targets)} | {'conflict'} (no room) | {'conflict', the hash, flat}
local me, name, topic = ARGV[3], ARGV[4], ARGV[5]
local most, life = tonumber(ARGV[7]), tonumber(ARGV[8])

local found = redis.call('HMGET', room, 'inc', 'ver', 'lin')
local exists = found[1] and found[3] == lineage
local version = tonumber(ARGV[2])
if version == 0 then
  if exists then return { 'conflict', redis.call('HGETALL', room) } end
elseif not exists then
  return { 'conflict' }
elseif found[1] ~= ARGV[1] or tonumber(found[2]) ~= version then
  return { 'conflict', redis.call('HGETALL', room) }
end

local at = 11
local function take()
  at = at + 1
  return ARGV[at - 1]
end

if version == 0 then
  redis.call('DEL', room)
  redis.call('HSET', room, 'inc', ARGV[1], 'lin', lineage)
  redis.call('PEXPIRE', room, ARGV[9])
end
redis.call('HSET', room, 'ver', string.format('%d', version + 1))
for _ = 1, tonumber(take()) do
  local peer = take()
  redis.call('HSET', room, 'p:' .. peer, take(), 'o:' .. peer, take())
end
for _ = 1, tonumber(take()) do
  local peer = take()
  redis.call('HDEL', room, 'p:' .. peer, 'o:' .. peer, 'l:' .. peer, 'h:' .. peer, 'a:' .. peer, 'b:' .. peer, 'c:' .. peer)
  redis.call('DEL', KEYS[tonumber(take())])
end
for _ = 1, tonumber(take()) do
  local peer, id = take(), take()
  if tonumber(id) > tonumber(redis.call('HGET', room, 'l:' .. peer) or 0) then redis.call('HSET', room, 'l:' .. peer, id) end
end
local results = { 'ok' }
for _ = 1, tonumber(take()) do
  local about, kind, body = take(), take(), take()
  local targets = {}
  for n = 1, tonumber(take()) do
    local peer, box = take(), KEYS[tonumber(take())]
    local node, epoch = owner(redis.call('HGET', room, 'o:' .. peer))
    targets[n] = { peer = peer, node = node, epoch = epoch, box = box }
  end
  results[#results + 1] = spread(targets, me, topic, name, about, '', kind, body, most, life)
end
for _ = 1, tonumber(take()) do
  redis.call('SPUBLISH', ARGV[6], take())
end
if ARGV[10] == '1' then redis.call('DEL', room) end
return results
