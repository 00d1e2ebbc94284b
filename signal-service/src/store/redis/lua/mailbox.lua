-- What both scripts share. KEYS[1] is the room hash:
--   inc incarnation · lin lineage (master_replid when the room was made) · ver version
--   p:<peer> record (JSON) · o:<peer> "<node> <epoch>" · l:<peer> highest accepted id
--   h:<peer> head, a:<peer> acknowledged: seqs · b:<peer>, c:<peer>: bytes ever written, ever acknowledged
-- A mailbox is a stream: entry id <epoch>-<seq>, fields in this order:
--   f from · i the sender's id or '' · k kind · t written at, ms · c bytes ever written · d body
local room = KEYS[1]

-- The replication history this server stands in. A promoted replica or a restarted server has another one and may lack
-- acknowledged writes, so a room of another lineage counts as gone.
local lineage = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Entries of `box` up to `seq` are done with; `written` is the c of the last of them.
local function acknowledge(peer, epoch, box, seq, written)
  -- The count before the entries: a full Redis takes no HSET but would take the XTRIM.
  redis.call('HSET', room, 'a:' .. peer, seq, 'c:' .. peer, written)
  redis.call('XTRIM', box, 'MINID', epoch .. '-' .. (seq + 1))
end

-- Entries of `box` older than `life` ms go.
local function drop_old(peer, epoch, box, life)
  local page = redis.call('XRANGE', box, '-', '+', 'COUNT', 1)
  while page[1] and tonumber(page[1][2][8]) < now - life do
    page = redis.call('XRANGE', box, '-', '+', 'COUNT', 128)
    local last
    for _, entry in ipairs(page) do
      if tonumber(entry[2][8]) >= now - life then break end
      last = entry
    end
    local seq = tonumber(string.match(last[1], '-(%d+)$'))
    acknowledge(peer, epoch, box, seq, last[2][10])
    page = redis.call('XRANGE', box, '-', '+', 'COUNT', 1)
  end
end

-- A mailbox that has expired took its entries along: none of them waits any more. `head` and `bytes` are what was written to it.
local function settle_expired(peer, box, head, bytes)
  local expired = redis.call('EXISTS', box) == 0
  if expired then redis.call('HSET', room, 'a:' .. peer, head, 'c:' .. peer, bytes) end
  return expired
end

-- Writes one entry and returns its seq. `most` bounds the stream, `life` its age and its TTL, both in the same step.
local function write(peer, epoch, box, from, id, kind, body, most, life)
  local seq = redis.call('HINCRBY', room, 'h:' .. peer, 1)
  local bytes = redis.call('HINCRBY', room, 'b:' .. peer, #body)
  settle_expired(peer, box, seq - 1, bytes - #body)
  redis.call('XADD', box, 'MAXLEN', most, epoch .. '-' .. seq,
    'f', from, 'i', id, 'k', kind, 't', string.format('%d', now), 'c', bytes, 'd', body)
  redis.call('PEXPIRE', box, life)
  drop_old(peer, epoch, box, life)
  return seq
end

-- Splits "<node> <epoch>".
local function owner(value)
  return string.match(value, '^(%x+) (%d+)$')
end

-- Tells each other node once what was written for its peers: a header line, then the body.
local function publish(topic, per_node, name, from, id, kind, body)
  for node, list in pairs(per_node) do
    redis.call('SPUBLISH', topic .. node, name .. ' ' .. from .. ' ' .. (id == '' and '-' or id) .. ' ' .. kind .. ' '
      .. table.concat(list, ',') .. '\n' .. body)
  end
end

-- Writes one body to several mailboxes. `targets` is a list of {peer, epoch, node, box}. Returns what `me` must hand out
-- itself, flat: peer, epoch, seq, …
local function spread(targets, me, topic, name, from, id, kind, body, most, life)
  local mine, per_node = {}, {}
  for _, t in ipairs(targets) do
    local seq = write(t.peer, t.epoch, t.box, from, id, kind, body, most, life)
    if t.node == me then
      mine[#mine + 1] = t.peer
      mine[#mine + 1] = t.epoch
      mine[#mine + 1] = seq
    else
      local list = per_node[t.node] or {}
      list[#list + 1] = t.peer .. ':' .. t.epoch .. ':' .. seq
      per_node[t.node] = list
    end
  end
  publish(topic, per_node, name, from, id, kind, body)
  return mine
end
