-- Appends a batch of one sender's messages. Every check of a message precedes its first write.
-- KEYS: 1 room hash, 2 the sender's mailbox, 3… mailboxes of the targets
-- ARGV: 1 sender, 2 node, 3 epoch, 4 acknowledged seq, 5 room name, 6 topic prefix, 7 backlog, 8 backlog bytes,
--       9 entry life ms, 10 the caller's version, 11 number of messages, then for each message:
--       id or '', 'p' (one peer) or 'r' (the room), body, number of targets, then for each target: peer, index in KEYS
-- Returns {'gone'} | {'fenced'} | {'ok', one result per message…}: {'w', peer, epoch, seq, …} written (this node's targets)
--       | {'d'} duplicate | {'n'} no such peer | {'b'} backlogged | {'s'} stale view, and nothing after it was looked at
local sender, me, epoch, acked = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local name, topic = ARGV[5], ARGV[6]
local backlog, backlog_bytes, life = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

local own = redis.call('HMGET', room, 'lin', 'ver', 'o:' .. sender, 'l:' .. sender, 'a:' .. sender)
if not own[1] or own[1] ~= lineage or not own[3] then return { 'gone' } end
if own[3] ~= me .. ' ' .. epoch then return { 'fenced' } end

if acked > tonumber(own[5] or 0) then
  local entry = redis.call('XRANGE', KEYS[2], epoch .. '-' .. acked, epoch .. '-' .. acked)[1]
  if entry then acknowledge(sender, epoch, KEYS[2], acked, entry[2][10]) end
end

local last = tonumber(own[4] or 0)
local accepted
local results = { 'ok' }

-- Whether a mailbox takes no more for now; its head and the bytes ever written to it.
local function is_full(peer)
  local f = redis.call('HMGET', room, 'h:' .. peer, 'a:' .. peer, 'b:' .. peer, 'c:' .. peer)
  local waiting = tonumber(f[1] or 0) - tonumber(f[2] or 0)
  local waiting_bytes = tonumber(f[3] or 0) - tonumber(f[4] or 0)
  return waiting >= backlog or waiting_bytes >= backlog_bytes, f[1] or 0, f[3] or 0
end

-- The targets of a message that begins at `at`, or the reason why it is refused.
local function targets_of(at, count)
  local targets = {}
  for n = 1, count do
    local peer, box = ARGV[at + 2 * n - 2], KEYS[tonumber(ARGV[at + 2 * n - 1])]
    local owned = redis.call('HGET', room, 'o:' .. peer)
    if not owned then return nil, 'n' end
    local node, e = owner(owned)
    local full, head, bytes = is_full(peer)
    -- What is too old does not count.
    if full and not settle_expired(peer, box, head, bytes) then
      drop_old(peer, e, box, life)
      if is_full(peer) then return nil, 'b' end
    end
    targets[n] = { peer = peer, node = node, epoch = e, box = box }
  end
  return targets
end

local at = 12
for _ = 1, tonumber(ARGV[11]) do
  local id, to, body, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  at = at + 4
  local result
  if id ~= '' and tonumber(id) <= last then
    result = { 'd' }
  elseif to == 'r' and ARGV[10] ~= own[2] then
    results[#results + 1] = { 's' }
    break
  else
    local targets, refusal = targets_of(at, count)
    if targets then
      result = { 'w', unpack(spread(targets, me, topic, name, sender, id, 'f', body, 2 * backlog, life)) }
      if id ~= '' then last, accepted = tonumber(id), id end
    else
      result = { refusal }
    end
  end
  results[#results + 1] = result
  at = at + 2 * count
end
if accepted then redis.call('HSET', room, 'l:' .. sender, accepted) end
return results
