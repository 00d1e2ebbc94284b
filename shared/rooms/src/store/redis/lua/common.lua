-- Functions and values that the scripts on a room share.
-- KEYS: 1 room hash; 2 deadlines of the partition, for scripts that write entries
-- ARGV: the last three are the arguments of `last_lost`
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
--   t:<peer> tombstone: "<epoch> <expiry> <reason>" · w:<peer> the peer waits in the lobby
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
--   s the state that an event tells, a key of `replacements`; '' for a message
--   r id of the shared body, whose entry has no body of its own; only if there is one
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
-- `written` bytes and the first `messages` messages that were ever written.
local function settle(peer, seq, written, messages)
  local f = redis.call('HMGET', room, 'b:' .. peer, 'c:' .. peer, 'q:' .. peer)
  redis.call('HSET', room, 'a:' .. peer, seq, 'c:' .. peer, written, 'n:' .. peer, messages)
  add_waiting(tonumber(f[2] or 0) - tonumber(written))
  if f[3] then release(peer, f[3], tonumber(f[1] or 0) - tonumber(written)) end
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

-- Deletes the entries of a mailbox up to `seq`. `last` are the fields of the last of them.
local function acknowledge(peer, mailbox_version, mailbox_key, seq, last)
  -- The counts come first: a full Redis refuses HSET, and would still execute XTRIM.
  settle(peer, seq, last[10], last[14] or 0)
  redis.call('XTRIM', mailbox_key, 'MINID', mailbox_version .. '-' .. text(seq + 1))
end

-- Deletes the entries of a mailbox that are older than `entry_life` ms. Returns the time of the
-- first entry that remains.
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
  return first and tonumber(first[2][8])
end

-- Marks all entries of an empty mailbox as acknowledged: they were read or were too old. Returns the
-- number of entries in the mailbox.
local function settle_if_empty(peer, mailbox_key)
  local length = redis.call('XLEN', mailbox_key)
  if length == 0 then settle_all(peer) end
  return length
end

-- For each state that an event tells: the states that replace it, if they come later and are about
-- the same peer. j joined · u updated · a attachment · l left · k knock · r room · o own permissions
local replacements = {
  j = { 'j', 'l' }, u = { 'j', 'u', 'l' }, a = { 'j', 'u', 'a', 'l' }, l = { 'l' },
  k = { 'k' }, r = { 'r' }, o = { 'o' },
}

-- Drops the events of a mailbox that a later event replaces, then the oldest events beyond
-- `max_events`, and all entries of older mailbox versions. A peer stays announced before its
-- messages.
local function thin_out(peer, mailbox_version, mailbox_key, max_events)
  local entries = redis.call('XRANGE', mailbox_key, '-', '+')
  local later, senders, dropped = {}, {}, {}
  local events, dropped_seq = 0, nil
  for n = #entries, 1, -1 do
    local entry_id, fields = entries[n][1], entries[n][2]
    local about, state = fields[2], fields[16] or ''
    local its_mailbox_version, seq = string.match(entry_id, '^(%d+)-(%d+)$')
    if its_mailbox_version ~= mailbox_version then
      dropped[#dropped + 1] = entry_id
    elseif state == '' then
      senders[about] = true
    else
      local is_replaced = false
      for _, other in ipairs(replacements[state] or {}) do
        is_replaced = is_replaced or later[about .. other]
      end
      if is_replaced and not (state == 'j' and senders[about]) then
        dropped[#dropped + 1] = entry_id
      else
        events = events + 1
        if events > max_events then
          dropped[#dropped + 1] = entry_id
          dropped_seq = dropped_seq or seq
        end
      end
      later[about .. state] = true
    end
  end
  if dropped_seq then redis.call('HSET', room, 'x:' .. peer, dropped_seq) end
  for n = 1, #dropped, 1000 do
    redis.call('XDEL', mailbox_key, unpack(dropped, n, math.min(n + 999, #dropped)))
  end
end

-- Bounds a mailbox of `length` entries after an event was written: a quarter of `max_entries` are
-- events. The messages of peers are counted before they are accepted, so only messages of the
-- application, which are never refused, can exceed `max_entries`.
local function bound_mailbox(peer, mailbox_version, mailbox_key, length, unacked_messages, max_entries)
  if length - unacked_messages > max_entries / 4 then
    thin_out(peer, mailbox_version, mailbox_key, math.floor(max_entries / 8))
  end
  while length > max_entries and redis.call('XLEN', mailbox_key) > max_entries do
    local first = redis.call('XRANGE', mailbox_key, '-', '+', 'COUNT', 1)[1]
    local first_seq = tonumber(string.match(first[1], '-(%d+)$'))
    acknowledge(peer, mailbox_version, mailbox_key, first_seq, first[2])
  end
end

-- The state of a peer's mailbox, as `write` needs it.
local function read_counts(peer)
  local owner_value, last_seq, acked_seq, bytes, messages, acked_messages =
    unpack(redis.call('HMGET', room, 'o:' .. peer,
      'h:' .. peer, 'a:' .. peer, 'b:' .. peer, 'm:' .. peer, 'n:' .. peer))
  return owner_value, {
    last_seq = tonumber(last_seq or 0), acked_seq = tonumber(acked_seq or 0),
    bytes = tonumber(bytes or 0),
    messages = tonumber(messages or 0), acked_messages = tonumber(acked_messages or 0),
  }
end

-- Writes entries to one mailbox and returns the seq of the first one. `target` is {peer, node,
-- mailbox_version, mailbox_key, counts}; an entry is {from, id, kind, state, body}. An entry is
-- deleted after `entry_life` ms, with a delay of at most `max_deletion_delay` ms. Each entry renews
-- the TTL, so the TTL alone would never expire the first entry. A first entry that is older than the
-- delay gets a deadline of its own.
local function write(target, name, entries, mailbox_limits)
  local peer, mailbox_version, mailbox_key = target.peer, target.mailbox_version, target.mailbox_key
  local entry_life, delay = mailbox_limits.entry_life, mailbox_limits.max_deletion_delay
  local counts = target.counts
  local last_seq, bytes, messages = counts.last_seq, counts.bytes, counts.messages
  local acked_messages, length = counts.acked_messages, 0
  if counts.acked_seq < last_seq then length = settle_if_empty(peer, mailbox_key) end
  if length == 0 then acked_messages = messages end
  local has_event = false
  for n, entry in ipairs(entries) do
    if entry.state == '' then
      bytes = bytes + #entry.body
      messages = messages + 1
    end
    has_event = has_event or entry.kind ~= 'f'
    local entry_id = mailbox_version .. '-' .. text(last_seq + n)
    if entry.shared_body and target.is_lagging then
      redis.call('XADD', mailbox_key, entry_id, 'f', entry.from, 'i', entry.id, 'k', entry.kind,
        't', text(now), 'c', bytes, 'd', '', 'm', messages, 's', entry.state, 'r', entry.shared_body)
    else
      redis.call('XADD', mailbox_key, entry_id, 'f', entry.from, 'i', entry.id, 'k', entry.kind,
        't', text(now), 'c', bytes, 'd', entry.body, 'm', messages, 's', entry.state)
    end
  end
  redis.call('HSET', room, 'h:' .. peer, last_seq + #entries, 'b:' .. peer, bytes, 'm:' .. peer, messages)
  redis.call('PEXPIRE', mailbox_key, entry_life)
  if has_event then
    bound_mailbox(peer, mailbox_version, mailbox_key, length + #entries, messages - acked_messages,
      mailbox_limits.max_entries)
  end
  -- A mailbox that was empty has no old entry.
  if counts.acked_seq < last_seq then
    local first_at = drop_old(peer, mailbox_version, mailbox_key, entry_life)
    if first_at < now - delay then
      redis.call('ZADD', KEYS[2], 'NX', text(first_at + entry_life + delay), name .. ' ' .. peer)
    end
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

-- Stores a body for the targets that do not read. Returns its id.
local function share_body(targets, body, bodies_key, holders_key, mailbox_limits)
  local max_age = mailbox_limits.entry_life + mailbox_limits.max_deletion_delay
  local id = redis.call('XADD', bodies_key, 'MINID', text(now - max_age), '*', 't', text(now), 'd', body)
  for _, target in ipairs(targets) do
    if target.is_lagging then
      redis.call('ZADD', holders_key, 'NX', text(now), target.peer)
      redis.call('HSET', room, 'y:' .. target.peer, '1')
    end
  end
  redis.call('PEXPIRE', bodies_key, max_age)
  redis.call('PEXPIRE', holders_key, max_age)
  return id
end

-- Completes an entry that was written to mailboxes: counts it, and publishes it once to each other
-- node with a target, as a header line and the body. `written` is a list of {target, seq}. Returns the
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
  if entry.state == '' then add_waiting(#entry.body * #written) end
  local id = entry.id == '' and '-' or entry.id
  for node, list in pairs(per_node) do
    redis.call('SPUBLISH', topic .. node, name .. ' ' .. entry.from .. ' ' .. id .. ' ' .. entry.kind .. ' '
      .. table.concat(list, ',') .. '\n' .. entry.body)
  end
  return mine
end
