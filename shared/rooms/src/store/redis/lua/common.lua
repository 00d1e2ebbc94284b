-- Functions and values that the scripts on a room share.
-- KEYS: 1 room hash; 2 deadlines of the partition, for scripts that write entries
-- ARGV: the last three are the arguments of `last_lost`
-- Data structures of a room. Times are milliseconds since 1970; P is the hash tag of the partition:
--   sb:room:{P}:<room>        hash        the room; its fields are below
--   sb:box:{P}:<room>:<peer>  stream      the mailbox of a peer; its entries are below
--   sb:due:{P}                sorted set  the deadlines of the partition, by time: <room>, or
--                                         "<room> <peer>" for a mailbox with an entry to delete
--   sb:on:{P}:<node>          set         the rooms in which the node has peers
--   sb:node:{P}:<node>        topic       new entries and resyncs for peers of the node
-- Fields of the room hash:
--   inc room instance · ver version · set settings (JSON) · beg begin of its life · end end of it
--   lin replication id · hl time since which all mailboxes belong to that replication id
--   p:<peer> record (JSON) · o:<peer> "<node or -> <epoch> <mailbox version>"
--   g:<peer> handle generation that the client has · d:<peer> end of its resume window
--   t:<peer> tombstone: "<epoch> <expiry> <reason>" · w:<peer> the peer waits in the lobby
--   l:<peer> highest accepted id · h:<peer> last seq · a:<peer> acknowledged seq
--   b:<peer> bytes ever written · c:<peer> bytes ever acknowledged
--   wb bytes that wait in all mailboxes: the sum of b - c
--   q:<peer> "<grant> <bytes> …": of the bytes that wait for the peer, those that were written while
--     it did not read, by the grant of their sender · s:<grant> the sum of these bytes of a grant
-- Entries of a mailbox have the id <mailbox version>-<seq> and these fields, in this order:
--   f from · i id of the message or '' · k kind · t time · c bytes ever written · d body
local room = KEYS[1]

-- A promoted replica or a restarted server has another replication id, and may lack acknowledged
-- writes.
local replication_id = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')

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
-- `written` bytes that were ever written.
local function settle(peer, seq, written)
  local f = redis.call('HMGET', room, 'b:' .. peer, 'c:' .. peer, 'q:' .. peer)
  redis.call('HSET', room, 'a:' .. peer, seq, 'c:' .. peer, written)
  add_waiting(tonumber(f[2] or 0) - tonumber(written))
  if f[3] then release(peer, f[3], tonumber(f[1] or 0) - tonumber(written)) end
end

-- Records that no entry waits for a peer.
local function settle_all(peer)
  local written = redis.call('HMGET', room, 'h:' .. peer, 'b:' .. peer)
  settle(peer, written[1] or 0, written[2] or 0)
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
-- gets a new version and all nodes resync. Moving a slot looks the same. Returns whether the room
-- exists.
local function heal()
  local known = redis.call('HMGET', room, 'lin', 'hl')
  if not known[1] or known[1] == replication_id and last_lost() < tonumber(known[2]) then return known[1] end
  local tag, name = string.match(room, '^sb:room:({%w+}):(.*)$')
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
    if node ~= '-' then redis.call('SPUBLISH', 'sb:node:' .. tag .. ':' .. node, '!' .. name .. ' ' .. peers) end
  end
  return known[1]
end

-- The room as the callers read it.
local function state()
  return { replication_id, text(now), redis.call('HGETALL', room) }
end

-- Deletes the entries of a mailbox up to `seq`. `written` is field c of the last of them.
local function acknowledge(peer, mailbox_version, mailbox_key, seq, written)
  -- The counts come first: a full Redis refuses HSET, and would still execute XTRIM.
  settle(peer, seq, written)
  redis.call('XTRIM', mailbox_key, 'MINID', mailbox_version .. '-' .. text(seq + 1))
end

-- Deletes the entries of a mailbox that are older than `entry_life` ms. Returns the time of the
-- first entry that remains, and the fields of that entry.
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
      acknowledge(peer, mailbox_version, mailbox_key, tonumber(seq), last[2][10])
    else
      local next_id = its_mailbox_version .. '-' .. text(tonumber(seq) + 1)
      redis.call('XTRIM', mailbox_key, 'MINID', next_id)
    end
    first = redis.call('XRANGE', mailbox_key, '-', '+', 'COUNT', 1)[1]
  end
  if first then return tonumber(first[2][8]), first[2] end
end

-- Marks all entries of an empty mailbox as acknowledged: they were read or were too old. Returns
-- whether the mailbox is empty.
local function settle_empty(peer, mailbox_key)
  local empty = redis.call('XLEN', mailbox_key) == 0
  if empty then settle_all(peer) end
  return empty
end

-- Writes one entry and returns its seq. A mailbox has at most `max_entries` entries. An entry is
-- deleted after `entry_life` ms, with a delay of at most `max_deletion_delay` ms. Each entry renews
-- the TTL, so the TTL alone would never expire the first entry. A first entry that is older than the
-- delay gets a deadline of its own.
local function write(target, name, from, id, kind, body, mailbox_limits)
  local peer, mailbox_version, mailbox_key = target.peer, target.mailbox_version, target.mailbox_key
  local entry_life, delay = mailbox_limits.entry_life, mailbox_limits.max_deletion_delay
  local max_entries = mailbox_limits.max_entries
  local last_seq, acked_seq = target.last_seq, target.acked_seq
  if acked_seq < last_seq and settle_empty(peer, mailbox_key) then acked_seq = last_seq end
  local seq = redis.call('HINCRBY', room, 'h:' .. peer, 1)
  local bytes = redis.call('HINCRBY', room, 'b:' .. peer, #body)
  redis.call('XADD', mailbox_key, 'MAXLEN', max_entries, mailbox_version .. '-' .. text(seq),
    'f', from, 'i', id, 'k', kind, 't', text(now), 'c', bytes, 'd', body)
  redis.call('PEXPIRE', mailbox_key, entry_life)
  local first_at, first = drop_old(peer, mailbox_version, mailbox_key, entry_life)
  if first_at < now - delay then
    redis.call('ZADD', KEYS[2], 'NX', text(first_at + entry_life + delay), name .. ' ' .. peer)
  end
  -- The oldest entries were pushed out. They do not wait any more, and were not acknowledged.
  if seq - acked_seq > max_entries then
    local known = redis.call('HMGET', room, 'a:' .. peer, 'c:' .. peer)
    local gone = tonumber(first[10]) - #first[12]
    if gone > tonumber(known[2] or 0) then settle(peer, known[1] or 0, gone) end
  end
  return seq
end

-- Publishes the entry once to each other node with a target: a header line, then the body.
local function publish(topic, per_node, name, from, id, kind, body)
  for node, list in pairs(per_node) do
    redis.call('SPUBLISH', topic .. node, name .. ' ' .. from .. ' ' .. (id == '' and '-' or id) .. ' ' .. kind .. ' '
      .. table.concat(list, ',') .. '\n' .. body)
  end
end

-- Writes one body to several mailboxes. `targets` is a list of {peer, node, mailbox_version,
-- mailbox_key, last_seq, acked_seq}, as numbers before the write. Returns the entries that the node
-- `me` must deliver itself, flat: peer, mailbox version, seq, …
local function spread(targets, me, topic, name, from, id, kind, body, mailbox_limits)
  local mine, per_node = {}, {}
  for _, t in ipairs(targets) do
    local seq = write(t, name, from, id, kind, body, mailbox_limits)
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
  add_waiting(#body * #targets)
  publish(topic, per_node, name, from, id, kind, body)
  return mine
end
