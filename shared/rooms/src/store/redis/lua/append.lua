-- Appends a batch of messages of one sender, each to all its targets or to none. The script also
-- records the seq that the sender's client has acknowledged.
-- Runs after common.lua, which defines `room`, `replication_id` and the functions that are not
-- defined here, and describes the data structures.
-- KEYS: 1 room hash, 2 deadlines of the partition, 3 mailbox of the sender, 4 shared bodies,
--       5 peers whose mailboxes refer to them, 6… mailboxes of targets
-- ARGV: 1 sender, 2 node, 3 epoch, 4 mailbox version of the sender, 5 its acknowledged seq,
--       6 highest id that the node knows to be accepted; it may have delivered messages directly, to
--       peers of its own, while the store was unavailable,
--       7 handle generation of the client or '', 8 room name, 9 topic prefix,
--       10 maximum unacked entries, 11 maximum unacked bytes, 12 entry life ms,
--       13 maximum deletion delay ms, 14 version of the room that the caller knows,
--       15 number of messages, 16 maximum retention of a room, ms,
--       17 unacked bytes with which an attached peer counts as one that does not read,
--       for a message to a peer that does not read: 18 maximum bytes that wait in the room,
--       19 maximum bytes of the sender's grant that wait, 20 that grant, then for each message:
--       id or '', '1' if the caller chose its targets or its body by the room version in argument
--       14, else '0',
--       body, number of targets (0 for a withheld message),
--       then for each target: peer, index in KEYS
-- The caller owns the sender if `o:<sender>` has its node and its epoch.
-- Returns {'no'} if the caller does not own the sender
--       | {'ok', replication id, mailbox version of the sender, one result for each message…}:
--         {'w', peer, mailbox version, seq, …} written (targets of this node) | {'d'} duplicate
--         | {'n'} no such peer | {'b'} backlogged
--         | {'r'} too much waits in the room, {'g'} of the grant, and a target does not read
--         | {'s'} stale: the message depends on an old version of the room; later messages have no
--           result
local sender_mailbox_key, bodies_key, holders_key = KEYS[3], KEYS[4], KEYS[5]
local sender, me, epoch = ARGV[1], ARGV[2], ARGV[3]
local known_mailbox_version, acked_seq = ARGV[4], tonumber(ARGV[5])
local known_last_id, handle_generation = tonumber(ARGV[6]), ARGV[7]
local name, topic = ARGV[8], ARGV[9]
local backlog, backlog_bytes = tonumber(ARGV[10]), tonumber(ARGV[11])
local mailbox_limits = { entry_life = ARGV[12], max_deletion_delay = ARGV[13], max_room_retention = ARGV[16] }
local lag_bytes, grant = tonumber(ARGV[17]), ARGV[20]
local known_room_version, message_count = ARGV[14], tonumber(ARGV[15])

-- heal() repairs the mailboxes after a change of the replication id. It returns nothing if the room
-- does not exist; then no node owns the sender.
local values = heal('ver', 'o:' .. sender, 'l:' .. sender, 'a:' .. sender, 'b:' .. sender,
  'c:' .. sender, 'q:' .. sender, 'y:' .. sender)
if not values or not values[4] then return { 'no' } end
local room_version, stored_last_id, stored_acked_seq = values[3], tonumber(values[5] or 0), values[6]
local node, owner_epoch, mailbox_version = owner(values[4])
if node ~= me or owner_epoch ~= epoch then return { 'no' } end

if handle_generation ~= '' then redis.call('HSET', room, 'g:' .. sender, handle_generation) end
-- How many more bytes wait in the room after this call.
local more_waiting = 0
if mailbox_version == known_mailbox_version and acked_seq > tonumber(stored_acked_seq or 0) then
  local newest, oldest = mailbox_version .. '-' .. text(acked_seq), mailbox_version .. '-0'
  local last = redis.call('XREVRANGE', sender_mailbox_key, newest, oldest, 'COUNT', 1)[1]
  -- The last remaining entry knows the counts. If all have expired, the counts are corrected when
  -- the mailbox seems full.
  if last then
    local fields = last[2]
    -- The counts come first, as in `acknowledge`.
    more_waiting =
      -settle_known(sender, acked_seq, fields[10], fields[14] or 0, values[7], values[8], values[9])
    redis.call('XTRIM', sender_mailbox_key, 'MINID', mailbox_version .. '-' .. text(acked_seq + 1))
  else
    redis.call('HSET', room, 'a:' .. sender, text(acked_seq))
  end
  if values[10] then release_bodies(sender, sender_mailbox_key, bodies_key, holders_key) end
end

local last_id = math.max(stored_last_id, known_last_id)
local results = { 'ok', replication_id, mailbox_version }

-- Returns whether a mailbox is full of messages, and whether much waits in it.
local function load_of(target)
  local unacked_bytes = target.unacked_bytes
  return target.unacked_messages >= backlog or unacked_bytes >= backlog_bytes, unacked_bytes >= lag_bytes
end

-- Returns the targets of the message whose target list begins at ARGV[`at`], and the number of those
-- that do not read; or nil and the refusal. One target that cannot receive refuses the message for
-- all.
local function targets_of(at, count)
  local targets, lagging_count = {}, 0
  for n = 1, count do
    local peer, mailbox_key = ARGV[at + 2 * n - 2], KEYS[tonumber(ARGV[at + 2 * n - 1])]
    local target = read_target(peer, mailbox_key)
    -- A peer in the lobby receives no messages, and the sender must not learn that it is there.
    if not target or target.in_lobby then return nil, 'n' end
    local is_full, is_lagging = load_of(target)
    -- Before a refusal: counters of an expired stream are reset, and old entries are dropped.
    if is_full or is_lagging then
      drop_old(peer, target.mailbox_version, mailbox_key, mailbox_limits.entry_life)
      target = read_target(peer, mailbox_key)
      is_full, is_lagging = load_of(target)
      if is_full then return nil, 'b' end
    end
    target.is_lagging = is_lagging or target.node == '-'
    if target.is_lagging then lagging_count = lagging_count + 1 end
    targets[n] = target
  end
  if lagging_count > 0 then
    local waiting, charged = unpack(redis.call('HMGET', room, 'wb', 's:' .. grant))
    local room_bytes, grant_bytes = tonumber(ARGV[18]), tonumber(ARGV[19])
    if tonumber(waiting or 0) + more_waiting >= room_bytes then return nil, 'r' end
    if tonumber(charged or 0) >= grant_bytes then return nil, 'g' end
  end
  return targets, lagging_count
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
      redis.call('HSET', room, 'q:' .. t.peer, charged)
    end
  end
  redis.call('HINCRBY', room, 's:' .. grant, lagging_count * size)
end

-- A shorter body is stored in each mailbox: that is about as small, and simpler to read.
local MIN_SHARED_BYTES = 512

local at = 21 -- after the 20 arguments above
for _ = 1, message_count do
  local id, needs_room_version, body = ARGV[at], ARGV[at + 1] == '1', ARGV[at + 2]
  local count = tonumber(ARGV[at + 3])
  at = at + 4
  local result
  if id ~= '' and tonumber(id) <= last_id then
    result = { 'd' }
  elseif needs_room_version and known_room_version ~= room_version then
    results[#results + 1] = { 's' }
    break
  else
    local targets, found = targets_of(at, count) -- the number that do not read, or the refusal
    if targets then
      local entry, written = { from = sender, id = id, kind = 'f', state = '', body = body }, {}
      if found > 1 and #body >= MIN_SHARED_BYTES then
        entry.shared_body = share_body(targets, body, bodies_key, holders_key, mailbox_limits)
      end
      for n, target in ipairs(targets) do
        written[n] = { target = target, seq = write(target, name, { entry }, mailbox_limits) }
      end
      result = { 'w', unpack(publish(written, me, topic, name, entry)) }
      more_waiting = more_waiting + #body * #written
      if found > 0 then charge(targets, found, #body) end
      if id ~= '' then last_id = tonumber(id) end
    else
      result = { found }
    end
  end
  results[#results + 1] = result
  at = at + 2 * count
end
add_waiting(more_waiting)
if last_id > stored_last_id then redis.call('HSET', room, 'l:' .. sender, text(last_id)) end
return results
