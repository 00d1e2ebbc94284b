-- Functions and values that the scripts on a room share.
-- KEYS: 1 room hash; 2 deadlines of the partition, for scripts that write entries
-- ARGV: the fifth from the end is the beginning of the topics of nodes in this partition; then the
--       three arguments of `last_lost`; the last is the replication id of the server, as the caller
--       knows it, or ''
-- Data structures of a room. Times are milliseconds since 1970; P is the hash tag of the partition:
--   sb:room:2:{P}:<room>      hash        the room; its fields are below
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
--   m:<peer> the state of its mailbox, packed: see `MAILBOX_FORMAT`
--   g:<peer> handle generation that the client has · d:<peer> end of its resume window
--   t:<peer> tombstone: "<epoch> <expiry> <reason> <token id>"
--   x:<peer> last event that was dropped although no later event replaces it
--   r:<peer> "<id> <code> …": ids of the peer that were refused, although a later id was accepted;
--     the highest `MAX_REFUSED_IDS`, with the codes of their answers; absent without such an id
--   wb bytes of messages that wait in all mailboxes
--   q:<peer> "<grant> <bytes> …": of the bytes that wait for the peer, those that were written while
--     it did not read, by the grant of their sender · s:<grant> the sum of these bytes of a grant
-- Entries of a mailbox have the id <mailbox version>-<seq> and these fields, in this order:
--   f from · i id of the message or '' · k kind · t time · c bytes of messages that were written
--   before it · d body · m number of messages that were written before it
--   s the state that an event tells, a key of `replacements` in commit.lua; '' for a
--   message
--   r id of the shared body, whose entry has no body of its own; only if there is one
-- Entries up to the acknowledged seq are deleted when the next entry is written, and by `sweep`.
local room = KEYS[1]
local node_topics = ARGV[#ARGV - 4]

-- A promoted replica or a restarted server has another replication id, and may lack acknowledged
-- writes. The caller knows the id from the connection on which it sends the call.
-- docs/decisions/0017 says when the server itself must be asked.
local replication_id = ARGV[#ARGV]
local function ask_replication_id()
  local info = redis.call('INFO', 'replication')
  local _, label_end = string.find(info, 'master_replid:', 1, true)
  replication_id = string.sub(info, label_end + 1, label_end + 40)
end

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

-- Values that a call writes to the room, all at once: field, value, …
local writes = {}
local function set_field(field, value)
  writes[#writes + 1] = field
  writes[#writes + 1] = value
end

-- Lua can pass only some thousand values to a function.
local MAX_VALUES = 2000

-- Reads fields of the room.
local function read_fields(fields)
  if #fields <= MAX_VALUES then return redis.call('HMGET', room, unpack(fields)) end
  local values = {}
  for n = 1, #fields, MAX_VALUES do
    local last = math.min(n + MAX_VALUES - 1, #fields)
    local part = redis.call('HMGET', room, unpack(fields, n, last))
    for m = n, last do values[m] = part[m - n + 1] end
  end
  return values
end

-- The members that a call has read, by peer. Each is read once, and written once by `save_members`.
local members = {}
-- What a call adds to the bytes that wait in the room, and their number before it, if it is known.
local more_waiting, waiting_before = 0, nil

-- The numbers of a packed mailbox, each a double: highest accepted id of the peer, last seq,
-- acknowledged seq, bytes and number of messages ever written, the same of those that are known to be
-- acknowledged (more may be: `sweep` counts them), a time before which no waiting entry was written,
-- end of the TTL, deadline of the mailbox, and as 1 or 0: the peer waits in the lobby, the mailbox may refer to shared bodies,
-- grants are charged for waiting messages.
local MAILBOX_FORMAT = '>ddddddddddddd'

-- Keeps a member of the room. `packed` is its field m. One table with all its fields is made at once: a
-- table that grows is slow.
local function add_member(peer, owner_value, packed)
  local node, epoch, mailbox_version = owner(owner_value)
  local last_id, last_seq, acked_seq, bytes, messages, acked_bytes, acked_messages, first_at, kept_until, due_at,
    in_lobby, holds_bodies, is_charged
  if packed then
    last_id, last_seq, acked_seq, bytes, messages, acked_bytes, acked_messages, first_at, kept_until, due_at,
      in_lobby, holds_bodies, is_charged = struct.unpack(MAILBOX_FORMAT, packed)
  end
  local member = {
    peer = peer, node = node, epoch = epoch, mailbox_version = mailbox_version, last_id = last_id or 0,
    last_seq = last_seq or 0, acked_seq = acked_seq or 0, bytes = bytes or 0, messages = messages or 0,
    acked_bytes = acked_bytes or 0, acked_messages = acked_messages or 0, first_at = first_at or 0,
    kept_until = kept_until or 0, due_at = due_at or 0, in_lobby = in_lobby or 0,
    holds_bodies = holds_bodies or 0, is_charged = is_charged or 0,
    -- These are not stored.
    is_changed = false, is_trimmed = false, is_lagging = false, mailbox_key = false,
  }
  members[peer] = member
  return member
end

-- Returns a member of the room, or nothing.
local function read_member(peer)
  if members[peer] then return members[peer] end
  local values = redis.call('HMGET', room, 'o:' .. peer, 'm:' .. peer)
  return values[1] and add_member(peer, values[1], values[2])
end

-- Writes all members that were changed, and the fields of `set_field`.
local function save_members()
  for peer, member in pairs(members) do
    if member.is_changed then
      member.is_changed = false
      set_field('m:' .. peer, struct.pack(MAILBOX_FORMAT, member.last_id, member.last_seq, member.acked_seq,
        member.bytes, member.messages, member.acked_bytes, member.acked_messages, member.first_at,
        member.kept_until, member.due_at, member.in_lobby, member.holds_bodies, member.is_charged))
    end
  end
  if more_waiting ~= 0 then
    local before = tonumber(waiting_before or redis.call('HGET', room, 'wb') or 0)
    set_field('wb', text(math.max(before + more_waiting, 0)))
    more_waiting, waiting_before = 0, nil
  end
  for n = 1, #writes, MAX_VALUES do
    redis.call('HSET', room, unpack(writes, n, math.min(n + MAX_VALUES - 1, #writes)))
  end
  writes = {}
end

-- The refused ids of a peer that are kept. The nodes keep as many (`RefusedIds::MAX`).
local MAX_REFUSED_IDS = 64

-- Reads refused ids: {id = code}.
local function parse_refused(list)
  local codes = {}
  for id, code in string.gmatch(list or '', '(%d+) (%S+)') do codes[tonumber(id)] = code end
  return codes
end

-- Keeps the ids of `refused` between `above` and `below`, which is an accepted id, for the next `save_members`.
local function keep_refused(peer, refused, above, below)
  local codes
  for id, code in pairs(refused) do
    if id > above and id < below then
      codes = codes or parse_refused(redis.call('HGET', room, 'r:' .. peer))
      codes[id] = code
    end
  end
  if not codes then return end
  local ids, list = {}, {}
  for id in pairs(codes) do ids[#ids + 1] = id end
  table.sort(ids)
  for n = math.max(1, #ids - MAX_REFUSED_IDS + 1), #ids do list[#list + 1] = text(ids[n]) .. ' ' .. codes[ids[n]] end
  set_field('r:' .. peer, table.concat(list, ' '))
end

-- Releases the bytes that are charged to grants beyond those that wait, the earliest grant first.
local function release(member)
  local peer, surplus = member.peer, member.acked_bytes - member.bytes
  local charged = redis.call('HGET', room, 'q:' .. peer) or ''
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
    member.is_charged = 0
    redis.call('HDEL', room, 'q:' .. peer)
  end
end

-- Records that the first `bytes` bytes and the first `messages` messages that were ever written to a
-- member do not wait any more.
local function settle(member, bytes, messages)
  more_waiting = more_waiting - (bytes - member.acked_bytes)
  member.acked_bytes, member.acked_messages, member.is_changed = bytes, messages, true
  if member.is_charged == 1 then release(member) end
end

-- Records that no entry waits for a member.
local function settle_all(member)
  member.acked_seq = member.last_seq
  settle(member, member.bytes, member.messages)
end

-- Gives a member a new mailbox version: entries of the old version may be lost. They have smaller
-- ids in the stream, so they are not read and will be deleted.
local function renew(member)
  member.mailbox_version = text(math.max(tonumber(member.mailbox_version) + 1, now))
  set_field('o:' .. member.peer, member.node .. ' ' .. member.epoch .. ' ' .. member.mailbox_version)
  settle_all(member)
end

-- Returns the time of the last acknowledged write that this server may lack; -1 if there is none.
-- Three ARGV describe the writes in this partition that Redis has acknowledged to the
-- calling node: the replication id of the last write, its age, and the age of the last write with
-- another replication id (or -1). A demoted master may accept writes after its successor does.
local function last_lost()
  local known, age, older_age = ARGV[#ARGV - 3], tonumber(ARGV[#ARGV - 2]), tonumber(ARGV[#ARGV - 1])
  local lost = -1
  if older_age >= 0 then lost = now - older_age end
  if known ~= '' and known ~= replication_id then lost = math.max(lost, now - age) end
  return lost
end

-- Whether no write of the room can be lost. `healed` are its fields lin and hl.
local function is_complete(healed)
  return healed[1] == replication_id and last_lost() < tonumber(healed[2])
end

-- Heals a room after writes may have been lost: the room has another replication id, or a node has
-- lost a write since the room was last healed. It is unknown which writes were lost, so each mailbox
-- gets a new version and all nodes resync. Moving a slot looks the same. `fields` are the fields to
-- read, after lin and hl. Returns their values and those of lin and hl, or nothing if the room does
-- not exist.
local function heal(fields)
  fields = fields or { 'lin', 'hl' }
  local known = read_fields(fields)
  if is_complete(known) then return known end
  -- The caller may not know yet what the server knows, and here it matters.
  ask_replication_id()
  if not known[1] then return nil end
  if is_complete(known) then return known end
  local name = string.match(room, '{%w+}:(.*)$')
  local peers_by_node = {}
  for _, field in ipairs(redis.call('HKEYS', room)) do
    local peer = string.match(field, '^o:(.+)$')
    if peer then
      local member = read_member(peer)
      renew(member)
      local node = member.node
      peers_by_node[node] = peers_by_node[node] and peers_by_node[node] .. ',' .. peer or peer
    end
  end
  -- The new version is higher than any version that the lost history can have used.
  local version = math.max(tonumber(redis.call('HGET', room, 'ver')) + 1, now * 1000)
  set_field('lin', replication_id)
  set_field('hl', text(now))
  set_field('ver', text(version))
  save_members()
  for node, peers in pairs(peers_by_node) do
    if node ~= '-' then redis.call('SPUBLISH', node_topics .. node, '!' .. name .. ' ' .. peers) end
  end
  members = {}
  return read_fields(fields)
end

-- The room as the callers read it.
local function state()
  return { replication_id, text(now), redis.call('HGETALL', room) }
end

-- Deletes the acknowledged entries of a mailbox, and counts what waits. Returns the fields of the
-- first entry that waits. If there is none, all entries count as acknowledged: they were read or
-- were too old.
local function sweep(member, mailbox_key)
  redis.call('XTRIM', mailbox_key, 'MINID', member.mailbox_version .. '-' .. text(member.acked_seq + 1))
  local first = redis.call('XRANGE', mailbox_key, '-', '+', 'COUNT', 1)[1]
  if not first then
    -- The stream may have expired.
    member.kept_until = 0
    settle_all(member)
    return nil
  end
  local fields = first[2]
  member.first_at = tonumber(fields[8])
  settle(member, tonumber(fields[10]), tonumber(fields[14]))
  return fields
end

-- Deletes also the entries that are older than `entry_life` ms. Returns the fields of the first
-- entry that remains.
local function drop_old(member, mailbox_key, entry_life)
  local first = sweep(member, mailbox_key)
  while first and member.first_at < now - entry_life do
    for _, entry in ipairs(redis.call('XRANGE', mailbox_key, '-', '+', 'COUNT', 128)) do
      if tonumber(entry[2][8]) >= now - entry_life then break end
      member.acked_seq = tonumber(string.match(entry[1], '-(%d+)$'))
    end
    first = sweep(member, mailbox_key)
  end
  return first
end

-- Writes entries to the mailbox of a member and returns the seq of the first one. An entry is {from,
-- id, kind, state, body}. An entry is deleted after `entry_life` ms, with a delay of at most
-- `max_deletion_delay` ms. The TTL of the mailbox is half of the delay longer, so that it is renewed
-- once in that time and not for each entry; alone it would never expire the first entry. A
-- first entry that is older than half of the delay gets a deadline of its own.
local function write(member, mailbox_key, name, entries, mailbox_limits)
  local entry_life, delay = mailbox_limits.entry_life, mailbox_limits.max_deletion_delay
  local waits = member.acked_seq < member.last_seq
  local oldest_without_deadline = member.due_at < now and now - delay / 2 or 0
  if waits and member.first_at < math.max(oldest_without_deadline, now - entry_life) then
    waits = drop_old(member, mailbox_key, entry_life)
    if waits and member.first_at < oldest_without_deadline then
      member.due_at = member.first_at + entry_life + delay
      redis.call('ZADD', KEYS[2], 'NX', text(member.due_at), name .. ' ' .. member.peer)
      -- Deadlines are kept for as long as any room may exist.
      redis.call('PEXPIRE', KEYS[2], mailbox_limits.max_room_retention)
    end
  end
  if not waits then member.first_at = now end
  local first_seq, written_at = member.last_seq + 1, text(now)
  local id_start = member.mailbox_version .. '-'
  for _, entry in ipairs(entries) do
    local body, state, shared_body = entry.body, entry.state, nil
    if member.is_lagging then shared_body = entry.shared_body end
    member.last_seq = member.last_seq + 1
    local id, bytes, messages = id_start .. text(member.last_seq), text(member.bytes), text(member.messages)
    if shared_body then
      redis.call('XADD', mailbox_key, id, 'f', entry.from, 'i', entry.id, 'k', entry.kind,
        't', written_at, 'c', bytes, 'd', '', 'm', messages, 's', state, 'r', shared_body)
    elseif member.is_trimmed then
      redis.call('XADD', mailbox_key, id, 'f', entry.from, 'i', entry.id, 'k', entry.kind,
        't', written_at, 'c', bytes, 'd', body, 'm', messages, 's', state)
    else
      redis.call('XADD', mailbox_key, 'MINID', id_start .. text(member.acked_seq + 1), id, 'f', entry.from,
        'i', entry.id, 'k', entry.kind, 't', written_at, 'c', bytes, 'd', body, 'm', messages, 's', state)
      member.is_trimmed = true
    end
    if state == '' then
      member.bytes = member.bytes + #body
      member.messages = member.messages + 1
      more_waiting = more_waiting + #body
    end
  end
  if member.kept_until < now + entry_life then
    member.kept_until = now + entry_life + delay / 2
    redis.call('PEXPIRE', mailbox_key, text(entry_life + delay / 2))
  end
  member.is_changed = true
  return first_seq
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

-- The first entries of a mailbox were deleted, with their references to shared bodies. `first` are
-- the fields of the first entry that remains, if there is one.
local function release_bodies(member, first, bodies_key, holders_key)
  if first then
    redis.call('ZADD', holders_key, 'XX', first[8], member.peer)
  else
    redis.call('ZREM', holders_key, member.peer)
    member.holds_bodies, member.is_changed = 0, true
  end
  trim_bodies(bodies_key, holders_key)
end

-- The entries that a call has written for peers of other nodes, by node.
local messages_by_node = {}

-- Has an entry that was written to mailboxes published once to each other node with a target.
-- `written` is a list of {member, seq}. Returns the entries that the node `me` must deliver itself,
-- flat: peer, mailbox version, seq, …
local function announce(written, me, name, entry)
  local mine, targets_by_node = {}, {}
  for _, w in ipairs(written) do
    local member, seq = w.member, text(w.seq)
    local node = member.node
    if node == me then
      mine[#mine + 1] = member.peer
      mine[#mine + 1] = member.mailbox_version
      mine[#mine + 1] = seq
    elseif node ~= '-' then
      local target = member.peer .. ':' .. member.mailbox_version .. ':' .. seq
      targets_by_node[node] = targets_by_node[node] and targets_by_node[node] .. ',' .. target or target
    end
  end
  local id = entry.id == '' and '-' or entry.id
  for node, targets in pairs(targets_by_node) do
    local list = messages_by_node[node] or {}
    messages_by_node[node] = list
    list[#list + 1] = name .. ' ' .. entry.from .. ' ' .. id .. ' ' .. entry.kind .. ' ' .. targets .. ' '
      .. #entry.body .. '\n'
    list[#list + 1] = entry.body
  end
  return mine
end

-- Publishes the entries that were announced, in one message for each node.
local function publish()
  for node, list in pairs(messages_by_node) do
    redis.call('SPUBLISH', node_topics .. node, #list == 2 and list[1] .. list[2] or table.concat(list))
  end
end
