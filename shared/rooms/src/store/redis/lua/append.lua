-- Appends a batch of messages of one sender, each to all its targets or to none. The script also
-- records the seq that the sender's client has acknowledged.
-- Runs after common.lua, which defines `room`, `replication_id` and the functions that are not
-- defined here, and describes the data structures.
-- For one message to one attached peer it calls Redis five times: TIME, HMGET, XADD, HSET, SPUBLISH.
-- KEYS: 1 room hash, 2 deadlines of the partition, 3 mailbox of the sender, 4 shared bodies,
--       5 peers whose mailboxes refer to them, 6… mailboxes of targets
-- ARGV: 1 sender, 2 node, 3 epoch, 4 mailbox version of the sender, 5 its acknowledged seq,
--       6 highest id that the node knows to be accepted; it may have delivered messages directly, to
--       peers of its own, while the store was unavailable,
--       7 handle generation of the client or '', 8 room name,
--       9 limits, packed: maximum unacked entries, maximum unacked bytes, unacked bytes with which an
--         attached peer counts as one that does not read, for a message to a peer that does not read:
--         maximum bytes that wait in the room, maximum bytes of the sender's grant that wait; entry
--         life ms, maximum deletion delay ms, maximum retention of a room ms,
--       10 the sender's grant, 11 version of the room that the caller knows,
--       12 ids of the sender that the node knows to be refused, as in the field r,
--       13 number of messages, then for each message:
--       id or '', '1' if the caller chose its targets or its body by the room version in argument
--       11, else '0',
--       body, number of targets (0 for a withheld message),
--       then for each target: peer, index in KEYS
-- The caller owns the sender if `o:<sender>` has its node and its epoch.
-- Returns {'no'} if the caller does not own the sender
--       | {'ok', replication id, mailbox version of the sender, one result for each message…}:
--         {'w', peer, mailbox version, seq, …} written (targets of this node) | {'d'} duplicate
--         | {'e', code} refused before with this code
--         | {'n'} no such peer | {'b'} backlogged
--         | {'r'} too much waits in the room, {'g'} of the grant, and a target does not read
--         | {'s'} stale: the message depends on an old version of the room; later messages have no
--           result
local FIRST_MESSAGE = 14 -- after the 13 arguments above
local sender_mailbox_key, bodies_key, holders_key = KEYS[3], KEYS[4], KEYS[5]
local sender_peer, me, epoch, name = ARGV[1], ARGV[2], ARGV[3], ARGV[8]
local known_mailbox_version, acked_seq = ARGV[4], tonumber(ARGV[5])
local known_last_id, handle_generation = tonumber(ARGV[6]), ARGV[7]
local backlog, backlog_bytes, lag_bytes, room_bytes, grant_bytes, entry_life, max_deletion_delay,
  max_room_retention = struct.unpack('>dddddddd', ARGV[9])
local mailbox_limits = {
  entry_life = entry_life, max_deletion_delay = max_deletion_delay, max_room_retention = max_room_retention,
}
local grant, known_room_version, message_count = ARGV[10], ARGV[11], tonumber(ARGV[13])

-- All that the call needs of the room is read at once: the sender and the targets.
local peers, fields = { sender_peer }, { 'lin', 'hl', 'ver', 'wb', 'o:' .. sender_peer, 'm:' .. sender_peer }
do
  local is_listed, at = { [sender_peer] = true }, FIRST_MESSAGE
  for _ = 1, message_count do
    local count = tonumber(ARGV[at + 3])
    at = at + 4
    for n = at, at + 2 * count - 2, 2 do
      local peer = ARGV[n]
      if not is_listed[peer] then
        is_listed[peer] = true
        peers[#peers + 1] = peer
        fields[#fields + 1] = 'o:' .. peer
        fields[#fields + 1] = 'm:' .. peer
      end
    end
    at = at + 2 * count
  end
end
-- heal() repairs the mailboxes after a change of the replication id. It returns nothing if the room
-- does not exist; then no node owns the sender.
local values = heal(fields)
if not values or not values[5] then return { 'no' } end
for n, peer in ipairs(peers) do
  if values[2 * n + 3] then add_member(peer, values[2 * n + 3], values[2 * n + 4]) end
end
local room_version, sender = values[3], members[sender_peer]
waiting_before = tonumber(values[4] or 0)
if sender.node ~= me or sender.epoch ~= epoch then return { 'no' } end

if handle_generation ~= '' then set_field('g:' .. sender_peer, handle_generation) end

-- With this many bytes the acknowledged entries are deleted at once, not when the next is written.
local MAX_UNSWEPT_BYTES = 32768

local has_acknowledged = sender.mailbox_version == known_mailbox_version and acked_seq > sender.acked_seq
local must_sweep = false
if has_acknowledged then
  must_sweep = sender.holds_bodies == 1 or sender.bytes - sender.acked_bytes >= MAX_UNSWEPT_BYTES
  sender.acked_seq, sender.is_changed = math.min(acked_seq, sender.last_seq), true
  if sender.acked_seq == sender.last_seq then settle_all(sender) end
end

local last_id = math.max(sender.last_id, known_last_id)
-- The refused ids that the node reports and those of this call. Most calls have none.
local refused = ARGV[12] ~= '' and parse_refused(ARGV[12]) or nil
local refused_before -- those in the field r, once an id needs them

local results = { 'ok', replication_id, sender.mailbox_version }

-- Returns whether a mailbox is full of messages, and whether much waits in it.
local function load_of(target)
  local unacked_bytes = target.bytes - target.acked_bytes
  local is_full = target.messages - target.acked_messages >= backlog or unacked_bytes >= backlog_bytes
  return is_full, unacked_bytes >= lag_bytes
end

-- Returns the targets of the message whose target list begins at ARGV[`at`], and the number of those
-- that do not read; or nil and the refusal. One target that cannot receive refuses the message for
-- all.
local function targets_of(at, count)
  local targets, lagging_count = {}, 0
  for n = 1, count do
    local target = members[ARGV[at + 2 * n - 2]]
    -- A peer in the lobby receives no messages, and the sender must not learn that it is there.
    if not target or target.in_lobby == 1 then return nil, 'n' end
    target.mailbox_key = KEYS[tonumber(ARGV[at + 2 * n - 1])]
    local is_full, is_lagging = load_of(target)
    -- Before a refusal: what was acknowledged or has expired is counted, and old entries are dropped.
    if is_full or is_lagging then
      drop_old(target, target.mailbox_key, mailbox_limits.entry_life)
      is_full, is_lagging = load_of(target)
      if is_full then return nil, 'b' end
    end
    target.is_lagging = is_lagging or target.node == '-'
    if target.is_lagging then lagging_count = lagging_count + 1 end
    targets[n] = target
  end
  if lagging_count > 0 then
    local charged = redis.call('HGET', room, 's:' .. grant)
    if waiting_before + more_waiting >= room_bytes then return nil, 'r' end
    if tonumber(charged or 0) >= grant_bytes then return nil, 'g' end
  end
  return targets, lagging_count
end

-- Stores a body for the targets that do not read. Returns its id.
local function share_body(targets, body)
  local max_age = mailbox_limits.entry_life + mailbox_limits.max_deletion_delay
  local id = redis.call('XADD', bodies_key, 'MINID', text(now - max_age), '*', 't', text(now), 'd', body)
  for _, target in ipairs(targets) do
    if target.is_lagging then
      redis.call('ZADD', holders_key, 'NX', text(now), target.peer)
      target.holds_bodies, target.is_changed = 1, true
    end
  end
  redis.call('PEXPIRE', bodies_key, text(max_age))
  redis.call('PEXPIRE', holders_key, text(max_age))
  return id
end

-- Charges a message of `size` bytes to the grant of its sender, for each target that does not read.
local function charge(targets, lagging_count, size)
  for _, t in ipairs(targets) do
    if t.is_lagging then
      local is_known = false
      local before = redis.call('HGET', room, 'q:' .. t.peer) or ''
      local charged = string.gsub(before, '(%S+) (%d+)', function(other, bytes)
        if other ~= grant then return end
        is_known = true
        return grant .. ' ' .. text(tonumber(bytes) + size)
      end)
      if not is_known then
        charged = charged .. (charged == '' and '' or ' ') .. grant .. ' ' .. text(size)
      end
      t.is_charged = 1
      redis.call('HSET', room, 'q:' .. t.peer, charged)
    end
  end
  redis.call('HINCRBY', room, 's:' .. grant, lagging_count * size)
end

-- A shorter body is stored in each mailbox: that is about as small, and simpler to read.
local MIN_SHARED_BYTES = 512

local at = FIRST_MESSAGE
for _ = 1, message_count do
  local id, needs_room_version, body = ARGV[at], ARGV[at + 1] == '1', ARGV[at + 2]
  local count = tonumber(ARGV[at + 3])
  at = at + 4
  local result
  if id ~= '' and tonumber(id) <= last_id then
    refused_before = refused_before or parse_refused(redis.call('HGET', room, 'r:' .. sender_peer))
    local settled_id = tonumber(id)
    local code = refused_before[settled_id] or (refused and settled_id > sender.last_id and refused[settled_id])
    result = code and { 'e', code } or { 'd' }
  elseif needs_room_version and known_room_version ~= room_version then
    results[#results + 1] = { 's' }
    break
  else
    local targets, found = targets_of(at, count) -- the number that do not read, or the refusal
    if targets then
      local entry, written = { from = sender_peer, id = id, kind = 'f', state = '', body = body }, {}
      if found > 1 and #body >= MIN_SHARED_BYTES then entry.shared_body = share_body(targets, body) end
      for n, target in ipairs(targets) do
        written[n] = { member = target, seq = write(target, target.mailbox_key, name, { entry }, mailbox_limits) }
      end
      result = announce(written, me, name, entry)
      table.insert(result, 1, 'w')
      if found > 0 then charge(targets, found, #body) end
      if id ~= '' then
        last_id = tonumber(id)
        if refused then refused[last_id] = nil end
      end
    else
      result = { found }
      if id ~= '' then
        refused = refused or {}
        refused[tonumber(id)] = found == 'n' and 'no_such_peer' or 'peer_backlogged'
      end
    end
  end
  results[#results + 1] = result
  at = at + 2 * count
end
if last_id > sender.last_id then
  if refused then keep_refused(sender_peer, refused, sender.last_id, last_id) end
  sender.last_id, sender.is_changed = last_id, true
end
save_members()
if must_sweep then
  local first = sweep(sender, sender_mailbox_key)
  if sender.holds_bodies == 1 then release_bodies(sender, first, bodies_key, holders_key) end
  save_members()
end
publish()
return results
