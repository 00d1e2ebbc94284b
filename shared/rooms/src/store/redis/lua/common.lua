-- What the scripts share. KEYS[2], where entries are written, holds the deadlines of the partition. KEYS[1] is the room hash:
--   inc incarnation · lin lineage · hl since when every mailbox is of that lineage, ms · ver version · end when its longest life is over, ms
--   set settings (JSON) · beg when its life began, ms
--   p:<peer> record (JSON) · o:<peer> "<node or -> <epoch> <mailbox>" · g:<peer> handle that its client is known to have
--   d:<peer> until when it is detached, ms · t:<peer> "<epoch> <until> <reason>": it has left · w:<peer> it waits in the lobby
--   l:<peer> highest accepted id · h:<peer> head, a:<peer> acknowledged: seqs · b:<peer>, c:<peer>: bytes ever written, ever acknowledged
-- A mailbox is a stream: entry id <mailbox>-<seq>, fields in this order:
--   f from · i the sender's id or '' · k kind · t written at, ms · c bytes ever written · d body
local room = KEYS[1]

-- The replication history this server stands in. A promoted replica or a restarted server has another one and may lack
-- acknowledged writes.
local lineage = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Numbers as text: Lua's own would round a moment in milliseconds.
local function text(number)
  return string.format('%d', number)
end

-- Splits "<node> <epoch> <mailbox>".
local function owner(value)
  local node, epoch, mailbox = string.match(value, '^(%S+) (%d+) (%d+)$')
  return node, epoch, mailbox
end

-- Gives a peer a new mailbox: what was in the old one, or should have been, is not promised any more. Entries of the old one
-- have smaller ids in the stream, so that they are neither read nor kept.
local function renew(peer)
  local node, epoch, mailbox = owner(redis.call('HGET', room, 'o:' .. peer))
  local written = redis.call('HMGET', room, 'h:' .. peer, 'b:' .. peer)
  local fresh = text(math.max(tonumber(mailbox) + 1, now))
  redis.call('HSET', room, 'o:' .. peer, node .. ' ' .. epoch .. ' ' .. fresh,
    'a:' .. peer, written[1] or 0, 'c:' .. peer, written[2] or 0)
  return fresh, written[1] or '0'
end

-- When the calling node was last told of a write that this server may not know of; -1 if there was none. The last three ARGV of every
-- script say it: the lineage of the last write it was told of in this partition, how long ago that was, and how long ago the last one of
-- another lineage was, or -1. A demoted master may have taken writes for a while after its successor had.
local function last_lost()
  local known, age, stale = ARGV[#ARGV - 2], tonumber(ARGV[#ARGV - 1]), tonumber(ARGV[#ARGV])
  local lost = -1
  if stale >= 0 then lost = now - stale end
  if known ~= '' and known ~= lineage then lost = math.max(lost, now - age) end
  return lost
end

-- A room of another lineage, or one in which a node was told of a write since it was last healed: nobody knows what was forgotten, so
-- that every mailbox is a new one, and all nodes are told. Moving a slot looks the same. Returns whether the room exists.
local function heal()
  local known = redis.call('HMGET', room, 'lin', 'hl')
  if not known[1] or known[1] == lineage and last_lost() < tonumber(known[2]) then return known[1] end
  local prefix, name = string.match(room, '^(sb:{%w+}:)room:(.*)$')
  local served = {}
  for _, field in ipairs(redis.call('HKEYS', room)) do
    local peer = string.match(field, '^o:(.+)$')
    if peer then
      renew(peer)
      local node = owner(redis.call('HGET', room, field))
      served[node] = served[node] and served[node] .. ',' .. peer or peer
    end
  end
  -- Nor may a version of the lost history be taken for one of this: the numbers go on where no other has been.
  local version = math.max(tonumber(redis.call('HGET', room, 'ver')) + 1, now * 1000)
  redis.call('HSET', room, 'lin', lineage, 'hl', text(now), 'ver', text(version))
  for node, peers in pairs(served) do
    if node ~= '-' then redis.call('SPUBLISH', prefix .. 'node:' .. node, '!' .. name .. ' ' .. peers) end
  end
  return known[1]
end

-- The room as callers read it.
local function state()
  return { lineage, text(now), redis.call('HGETALL', room) }
end

-- Entries of `box` up to `seq` are done with; `written` is the c of the last of them.
local function acknowledge(peer, mailbox, box, seq, written)
  -- The count before the entries: a full Redis takes no HSET but would take the XTRIM.
  redis.call('HSET', room, 'a:' .. peer, seq, 'c:' .. peer, written)
  redis.call('XTRIM', box, 'MINID', mailbox .. '-' .. text(seq + 1))
end

-- Entries of `box` older than `life` ms go. Returns when the first that is left was written.
local function drop_old(peer, mailbox, box, life)
  local first = redis.call('XRANGE', box, '-', '+', 'COUNT', 1)[1]
  while first and tonumber(first[2][8]) < now - life do
    local last
    for _, entry in ipairs(redis.call('XRANGE', box, '-', '+', 'COUNT', 128)) do
      if tonumber(entry[2][8]) >= now - life then break end
      last = entry
    end
    local its_mailbox, seq = string.match(last[1], '^(%d+)-(%d+)$')
    if its_mailbox == mailbox then
      acknowledge(peer, mailbox, box, tonumber(seq), last[2][10])
    else
      redis.call('XTRIM', box, 'MINID', its_mailbox .. '-' .. text(tonumber(seq) + 1))
    end
    first = redis.call('XRANGE', box, '-', '+', 'COUNT', 1)[1]
  end
  return first and tonumber(first[2][8])
end

-- In an empty mailbox nothing waits, whether it was read or is too old. `head` and `bytes` are what was written to it.
local function settle_empty(peer, box, head, bytes)
  local empty = redis.call('XLEN', box) == 0
  if empty then redis.call('HSET', room, 'a:' .. peer, head, 'c:' .. peer, bytes) end
  return empty
end

-- Writes one entry and returns its seq. `kept` says how much is kept: `most` entries, each for `life` ms, and `slack` ms longer
-- while nobody looks. The TTL alone would let the first entry live on with each that follows, so that one that has waited for
-- longer than the slack gets a deadline of its own.
local function write(peer, mailbox, box, name, from, id, kind, body, kept)
  local seq = redis.call('HINCRBY', room, 'h:' .. peer, 1)
  local bytes = redis.call('HINCRBY', room, 'b:' .. peer, #body)
  settle_empty(peer, box, seq - 1, bytes - #body)
  redis.call('XADD', box, 'MAXLEN', kept.most, mailbox .. '-' .. text(seq),
    'f', from, 'i', id, 'k', kind, 't', text(now), 'c', bytes, 'd', body)
  redis.call('PEXPIRE', box, kept.life)
  local first = drop_old(peer, mailbox, box, kept.life)
  if first < now - kept.slack then
    redis.call('ZADD', KEYS[2], 'NX', text(first + kept.life + kept.slack), name .. ' ' .. peer)
  end
  return seq
end

-- Tells each other node once what was written for its peers: a header line, then the body.
local function publish(topic, per_node, name, from, id, kind, body)
  for node, list in pairs(per_node) do
    redis.call('SPUBLISH', topic .. node, name .. ' ' .. from .. ' ' .. (id == '' and '-' or id) .. ' ' .. kind .. ' '
      .. table.concat(list, ',') .. '\n' .. body)
  end
end

-- Writes one body to several mailboxes. `targets` is a list of {peer, mailbox, node, box}. Returns what `me` must hand out
-- itself, flat: peer, mailbox, seq, …
local function spread(targets, me, topic, name, from, id, kind, body, kept)
  local mine, per_node = {}, {}
  for _, t in ipairs(targets) do
    local seq = write(t.peer, t.mailbox, t.box, name, from, id, kind, body, kept)
    if t.node == me then
      mine[#mine + 1] = t.peer
      mine[#mine + 1] = t.mailbox
      mine[#mine + 1] = seq
    elseif t.node ~= '-' then
      local list = per_node[t.node] or {}
      list[#list + 1] = t.peer .. ':' .. t.mailbox .. ':' .. seq
      per_node[t.node] = list
    end
  end
  publish(topic, per_node, name, from, id, kind, body)
  return mine
end
