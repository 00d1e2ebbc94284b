-- Functions and values that the scripts on a room share.
-- KEYS: 1 room hash; 2 deadlines of the partition, for scripts that write entries
-- ARGV: the fourth from the end is the beginning of the topics of nodes in this partition; the last
--       three are the arguments of `last_lost`
-- Data structures of a room. Times are milliseconds since 1970; P is the hash tag of the partition:
--   sb:room:{P}:<room>        hash        the room; its fields are below
--   sb:box:{P}:<room>:<peer>  stream      the mailbox of a peer; its entries are below
--   sb:body:{P}:<room>        stream      the bodies that entries of several mailboxes share: t, d
--   sb:body-held:{P}:<room>   sorted set  peers whose mailboxes may refer to shared bodies, by the
--                                         time of the oldest such entry
--   sb:due:{P}                sorted set  the deadlines of the partition, by time: <room>, or
--                                         "<room> <peer>" for a mailbox with an entry to delete
--   sb:on:{P}:<node>          set         the rooms in which the node has peers
--   sb:node:{P}:<node>        topic       new entries and resyncs for peers of the node
-- Fields of the room hash:
--   inc room instance · ver version · set settings (JSON) · san sanctions (JSON)
--   beg begin of its life · end end of it
--   lin replication id · hl time since which all mailboxes belong to that replication id
--   p:<peer> record (JSON) · o:<peer> "<node or -> <epoch> <mailbox version>"
--   g:<peer> handle generation that the client has · d:<peer> end of its resume window
--   t:<peer> tombstone: "<epoch> <expiry> <reason> <token id>" · w:<peer> the peer waits in the lobby
--   l:<peer> highest accepted id · h:<peer> last seq · a:<peer> acknowledged seq
--   b:<peer> bytes of messages ever written · c:<peer> the same, acknowledged
--   m:<peer> messages ever written · n:<peer> messages ever acknowledged
--   x:<peer> last event that was dropped although no later event replaces it
--   wb bytes of messages that wait in all mailboxes: the sum of b - c
--   q:<peer> "<grant> <bytes> …": of the bytes that wait for the peer, those that were written while
--     it did not read, by the grant of their sender · s:<grant> the sum of these bytes of a grant
--   y:<peer> '1' if the mailbox may refer to shared bodies
-- Entries of a mailbox have the id <mailbox version>-<seq> and these fields, in this order:
--   f from · i id of the message or '' · k kind · t time · c value of b: · d body · m value of m:
--   s the state that an event tells, a key of `replacements` in commit.lua; '' for a
--   message
--   r id of the shared body, whose entry has no body of its own; only if there is one
local room = KEYS[1]
local node_topics = ARGV[#ARGV - 3]

-- A promoted replica or a restarted server has another replication id, and may lack acknowledged
-- writes.
local replication_info = redis.call('INFO', 'replication')
-- A plain search and the known length are cheaper than a pattern.
local _, label_end = string.find(replication_info, 'master_replid:', 1, true)
local replication_id = string.sub(replication_info, label_end + 1, label_end + 40)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The default conversion would round a time in milliseconds.
local function text(number)
  return string.format('%d', number)
end

-- Splits "<node> <epoch> <mailbox version>".
local function owner(value)
  local node, epoch, mailbox_version = string.match(value, '^(%S+) (%d+) (%d+)$')
  return node, epoch, mailbox_version
end

-- Adds to the bytes that wait in the mailboxes of the room. A node of an earlier release does not
-- count them, so the sum could become negative.
local function add_waiting(bytes)
  if bytes ~= 0 and redis.call('HINCRBY', room, 'wb', bytes) < 0 then redis.call('HSET', room, 'wb', 0) end
end

-- Only `waiting` bytes wait for a peer now. Releases the surplus of the bytes that are charged to
-- grants, the earliest grant first. `charged` is field q.
local function release(peer, charged, waiting)
  local surplus = -waiting
  for bytes in string.gmatch(charged, '%S+ (%d+)') do surplus = surplus + tonumber(bytes) end
  if surplus <= 0 then return end
  local rest = {}
  for grant, bytes in string.gmatch(charged, '(%S+) (%d+)') do
    local released = math.min(tonumber(bytes), surplus)
    surplus = surplus - released
    if released > 0 and redis.call('HINCRBY', room, 's:' .. grant, -released) <= 0 then
      redis.call('HDEL', room, 's:' .. grant)
    end
    if released < tonumber(bytes) then rest[#rest + 1] = grant .. ' ' .. text(tonumber(bytes) - released) end
  end
  if #rest > 0 then
    redis.call('HSET', room, 'q:' .. peer, table.concat(rest, ' '))
  else
    redis.call('HDEL', room, 'q:' .. peer)
  end
end

-- Records that the entries of a peer up to `seq` do not wait any more, and with them the first
-- `written` bytes and the first `messages` messages that were ever written. The others are fields b, c
-- and q of the peer. Returns the number of bytes that waited until now, for `add_waiting`.
local function settle_known(peer, seq, written, messages, bytes, acked_bytes, charged)
  redis.call('HSET', room, 'a:' .. peer, seq, 'c:' .. peer, written, 'n:' .. peer, messages)
  if charged then release(peer, charged, tonumber(bytes or 0) - tonumber(written)) end
  return tonumber(written) - tonumber(acked_bytes or 0)
end

-- The same, if the fields are not known.
local function settle(peer, seq, written, messages)
  local bytes, acked_bytes, charged =
    unpack(redis.call('HMGET', room, 'b:' .. peer, 'c:' .. peer, 'q:' .. peer))
  add_waiting(-settle_known(peer, seq, written, messages, bytes, acked_bytes, charged))
end

-- Records that no entry waits for a peer.
local function settle_all(peer)
  local written = redis.call('HMGET', room, 'h:' .. peer, 'b:' .. peer, 'm:' .. peer)
  settle(peer, written[1] or 0, written[2] or 0, written[3] or 0)
  return written[1] or '0'
end

-- Gives a peer a new mailbox version: entries of the old version may be lost. They have smaller
-- ids in the stream, so they are not read and will be trimmed.
local function renew(peer)
  local node, epoch, mailbox_version = owner(redis.call('HGET', room, 'o:' .. peer))
  local fresh = text(math.max(tonumber(mailbox_version) + 1, now))
  redis.call('HSET', room, 'o:' .. peer, node .. ' ' .. epoch .. ' ' .. fresh)
  return fresh, settle_all(peer)
end

-- Returns the time of the last acknowledged write that this server may lack; -1 if there is none.
-- The last three ARGV describe the writes in this partition that Redis has acknowledged to the
-- calling node: the replication id of the last write, its age, and the age of the last write with
-- another replication id (or -1). A demoted master may accept writes after its successor does.
local function last_lost()
  local known, age, older_age = ARGV[#ARGV - 2], tonumber(ARGV[#ARGV - 1]), tonumber(ARGV[#ARGV])
  local lost = -1
  if older_age >= 0 then lost = now - older_age end
  if known ~= '' and known ~= replication_id then lost = math.max(lost, now - age) end
  return lost
end

-- Heals a room after writes may have been lost: the room has another replication id, or a node has
-- lost a write since the room was last healed. It is unknown which writes were lost, so each mailbox
-- gets a new version and all nodes resync. Moving a slot looks the same. Returns nothing if the room
-- does not exist; else two values that only this function needs, then the values of `...`, which are
-- fields of the room.
local function heal(...)
  local known = redis.call('HMGET', room, 'lin', 'hl', ...)
  if not known[1] then return nil end
  if known[1] == replication_id and last_lost() < tonumber(known[2]) then return known end
  local name = string.match(room, '{%w+}:(.*)$')
  local peers_by_node = {}
  for _, field in ipairs(redis.call('HKEYS', room)) do
    local peer = string.match(field, '^o:(.+)$')
    if peer then
      renew(peer)
      local node = owner(redis.call('HGET', room, field))
      peers_by_node[node] = peers_by_node[node] and peers_by_node[node] .. ',' .. peer or peer
    end
  end
  -- The new version is higher than any version that the lost history can have used.
  local version = math.max(tonumber(redis.call('HGET', room, 'ver')) + 1, now * 1000)
  redis.call('HSET', room, 'lin', replication_id, 'hl', text(now), 'ver', text(version))
  for node, peers in pairs(peers_by_node) do
    if node ~= '-' then redis.call('SPUBLISH', node_topics .. node, '!' .. name .. ' ' .. peers) end
  end
  return redis.call('HMGET', room, 'lin', 'hl', ...)
end

-- The room as the callers read it.
local function state()
  return { replication_id, text(now), redis.call('HGETALL', room) }
end

-- Deletes the entries of a mailbox up to `seq`. `last` are the fields of the last of them.
local function acknowledge(peer, mailbox_version, mailbox_key, seq, last)
  -- The counts come first: a full Redis refuses HSET, and would still execute XTRIM.
  settle(peer, seq, last[10], last[14] or 0)
  redis.call('XTRIM', mailbox_key, 'MINID', mailbox_version .. '-' .. text(seq + 1))
end

-- Deletes the entries of a mailbox that are older than `entry_life` ms. Returns the time of the
-- first entry that remains. If there is none, all entries count as acknowledged: they were read or were
-- too old.
local function drop_old(peer, mailbox_version, mailbox_key, entry_life)
  local first = redis.call('XRANGE', mailbox_key, '-', '+', 'COUNT', 1)[1]
  while first and tonumber(first[2][8]) < now - entry_life do
    local last
    for _, entry in ipairs(redis.call('XRANGE', mailbox_key, '-', '+', 'COUNT', 128)) do
      if tonumber(entry[2][8]) >= now - entry_life then break end
      last = entry
    end
    local its_mailbox_version, seq = string.match(last[1], '^(%d+)-(%d+)$')
    if its_mailbox_version == mailbox_version then
      acknowledge(peer, mailbox_version, mailbox_key, tonumber(seq), last[2])
    else
      local next_id = its_mailbox_version .. '-' .. text(tonumber(seq) + 1)
      redis.call('XTRIM', mailbox_key, 'MINID', next_id)
    end
    first = redis.call('XRANGE', mailbox_key, '-', '+', 'COUNT', 1)[1]
  end
  if not first then
    settle_all(peer)
    return nil
  end
  return tonumber(first[2][8])
end

-- Reads a peer that entries are written to, and the state of its mailbox. Returns nothing if there is no
-- such peer.
local function read_target(peer, mailbox_key)
  local owner_value, last_seq, acked_seq, bytes, acked_bytes, messages, acked_messages, in_lobby =
    unpack(redis.call('HMGET', room, 'o:' .. peer, 'h:' .. peer, 'a:' .. peer, 'b:' .. peer, 'c:' .. peer,
      'm:' .. peer, 'n:' .. peer, 'w:' .. peer))
  if not owner_value then return nil end
  local node, _, mailbox_version = owner(owner_value)
  bytes, messages = tonumber(bytes or 0), tonumber(messages or 0)
  return {
    peer = peer, mailbox_key = mailbox_key, node = node, mailbox_version = mailbox_version,
    last_seq = tonumber(last_seq or 0), acked_seq = tonumber(acked_seq or 0),
    bytes = bytes, unacked_bytes = bytes - tonumber(acked_bytes or 0),
    messages = messages, unacked_messages = messages - tonumber(acked_messages or 0),
    in_lobby = in_lobby,
  }
end

-- Writes entries to one mailbox and returns the seq of the first one. `target` is the reply of
-- `read_target`; an entry is {from, id, kind, state, body}. An entry is deleted after `entry_life` ms,
-- with a delay of at most `max_deletion_delay` ms. Each entry renews the TTL, so the TTL alone would
-- never expire the first entry. A first entry that is older than the delay gets a deadline of its own.
local function write(target, name, entries, mailbox_limits)
  local peer, mailbox_version, mailbox_key = target.peer, target.mailbox_version, target.mailbox_key
  local entry_life, delay = mailbox_limits.entry_life, mailbox_limits.max_deletion_delay
  local last_seq, bytes, messages = target.last_seq, target.bytes, target.messages
  -- A mailbox without unacknowledged entries has no old entry.
  local first_at
  if target.acked_seq < last_seq then
    first_at = drop_old(peer, mailbox_version, mailbox_key, entry_life)
  end
  -- Each number becomes text once, and not again in each call.
  local written_at, seq_text, bytes_text, messages_text = text(now), nil, nil, nil
  for n, entry in ipairs(entries) do
    local body, state = entry.body, entry.state
    if state == '' then
      bytes = bytes + #body
      messages = messages + 1
    end
    seq_text, bytes_text, messages_text = text(last_seq + n), text(bytes), text(messages)
    local entry_id = mailbox_version .. '-' .. seq_text
    if entry.shared_body and target.is_lagging then
      redis.call('XADD', mailbox_key, entry_id, 'f', entry.from, 'i', entry.id, 'k', entry.kind,
        't', written_at, 'c', bytes_text, 'd', '', 'm', messages_text, 's', state, 'r', entry.shared_body)
    else
      redis.call('XADD', mailbox_key, entry_id, 'f', entry.from, 'i', entry.id, 'k', entry.kind,
        't', written_at, 'c', bytes_text, 'd', body, 'm', messages_text, 's', state)
    end
  end
  redis.call('HSET', room, 'h:' .. peer, seq_text, 'b:' .. peer, bytes_text, 'm:' .. peer, messages_text)
  redis.call('PEXPIRE', mailbox_key, entry_life)
  if first_at and first_at < now - delay then
    redis.call('ZADD', KEYS[2], 'NX', text(first_at + entry_life + delay), name .. ' ' .. peer)
    -- Deadlines are kept for as long as any room may exist.
    redis.call('PEXPIRE', KEYS[2], mailbox_limits.max_room_retention)
  end
  return last_seq + 1
end

-- Shared bodies: a long message that several peers do not read is stored once. It is kept until all
-- of them have confirmed it or left, and at most as long as their entries.

-- Deletes the shared bodies to which no mailbox refers.
local function trim_bodies(bodies_key, holders_key)
  local oldest = redis.call('ZRANGE', holders_key, 0, 0, 'WITHSCORES')[2]
  if oldest then
    redis.call('XTRIM', bodies_key, 'MINID', oldest)
  else
    redis.call('DEL', bodies_key, holders_key)
  end
end

-- The first entries of a mailbox were deleted, with their references to shared bodies.
local function release_bodies(peer, mailbox_key, bodies_key, holders_key)
  local first = redis.call('XRANGE', mailbox_key, '-', '+', 'COUNT', 1)[1]
  if first then
    redis.call('ZADD', holders_key, 'XX', first[2][8], peer)
  else
    redis.call('ZREM', holders_key, peer)
    redis.call('HDEL', room, 'y:' .. peer)
  end
  trim_bodies(bodies_key, holders_key)
end

-- Publishes an entry that was written to mailboxes: once to each other node with a target, as a header
-- line and the body. `written` is a list of {target, seq}. Returns the
-- entries that the node `me` must deliver itself, flat: peer, mailbox version, seq, …
local function publish(written, me, topic, name, entry)
  local mine, per_node = {}, {}
  for _, w in ipairs(written) do
    local t, seq = w.target, text(w.seq)
    if t.node == me then
      mine[#mine + 1] = t.peer
      mine[#mine + 1] = t.mailbox_version
      mine[#mine + 1] = seq
    elseif t.node ~= '-' then
      local list = per_node[t.node] or {}
      list[#list + 1] = t.peer .. ':' .. t.mailbox_version .. ':' .. seq
      per_node[t.node] = list
    end
  end
  local id = entry.id == '' and '-' or entry.id
  for node, list in pairs(per_node) do
    redis.call('SPUBLISH', topic .. node, name .. ' ' .. entry.from .. ' ' .. id .. ' ' .. entry.kind .. ' '
      .. table.concat(list, ',') .. '\n' .. entry.body)
  end
  return mine
end
