-- Appends a batch of messages of one sender, each to all its targets or to none. The script also
-- records the seq that the sender's client has acknowledged.
-- Runs after common.lua, which defines `room`, `replication_id` and the functions that are not
-- defined here, and describes the fields of the room hash and of an entry.
-- KEYS: 1 room hash, 2 deadlines of the partition, 3 mailbox of the sender, 4… mailboxes of targets
-- ARGV: 1 sender, 2 node, 3 epoch, 4 mailbox version of the sender, 5 its acknowledged seq,
--       6 highest id that the node knows to be accepted, also by direct delivery,
--       7 handle generation of the client or '', 8 room name, 9 topic prefix,
--       10 maximum unacked entries, 11 maximum unacked bytes, 12 entry life ms, 13 slack ms,
--       14 version of the room that the caller knows, 15 number of messages,
--       16 maximum retention of a room, ms, then for each message:
--       id or '', address, body, number of targets, then for each target: peer, index in KEYS
--       Addresses: 'p' one peer · 'v' the peer that the caller has chosen from its view of the
--       room, or no peer if the message is withheld · 'r' all peers of the caller's view.
--       'v' and 'r' need the current version of the room
-- Returns {'no'} if the caller does not own the sender
--       | {'ok', replication id, mailbox version of the sender, one result for each message…}:
--         {'w', peer, mailbox version, seq, …} written (targets of this node) | {'d'} duplicate
--         | {'n'} no such peer | {'b'} backlogged
--         | {'s'} the caller does not know the current version; later messages have no result
local sender, me, epoch = ARGV[1], ARGV[2], ARGV[3]
local known_mailbox, acked, floor = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local name, topic = ARGV[8], ARGV[9]
local backlog, backlog_bytes, life = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local kept = { max_entries = 2 * backlog, life = life, slack = tonumber(ARGV[13]) }

-- heal() repairs the mailboxes after a change of the replication id. It returns false if the room
-- does not exist; then no node owns the sender.
if not heal() then return { 'no' } end
local own = redis.call('HMGET', room, 'ver', 'o:' .. sender, 'l:' .. sender, 'a:' .. sender)
if not own[2] then return { 'no' } end
local node, owner_epoch, mailbox = owner(own[2])
if node ~= me or owner_epoch ~= epoch then return { 'no' } end

if ARGV[7] ~= '' then redis.call('HSET', room, 'g:' .. sender, ARGV[7]) end
if mailbox == known_mailbox and acked > tonumber(own[4] or 0) then
  local id = mailbox .. '-' .. text(acked)
  local entry = redis.call('XRANGE', KEYS[3], id, id)[1]
  -- The tenth value of an entry is its `c`: the bytes written up to and with this entry. If the
  -- entry has expired, the counters are corrected when the mailbox seems full.
  if entry then acknowledge(sender, mailbox, KEYS[3], acked, entry[2][10]) end
end

local stored = tonumber(own[3] or 0) -- the highest id that the room has accepted
local last = math.max(stored, floor)
local results = { 'ok', replication_id, mailbox }

-- Returns whether the mailbox of a peer is full, its last seq, the bytes ever written to it, and
-- whether the peer waits in the lobby.
local function mailbox_state(peer)
  local f = redis.call('HMGET', room, 'h:' .. peer, 'a:' .. peer, 'b:' .. peer, 'c:' .. peer, 'w:' .. peer)
  local unacked = tonumber(f[1] or 0) - tonumber(f[2] or 0)
  local unacked_bytes = tonumber(f[3] or 0) - tonumber(f[4] or 0)
  return unacked >= backlog or unacked_bytes >= backlog_bytes, f[1] or 0, f[3] or 0, f[5]
end

-- Returns the targets of the message whose target list begins at ARGV[`at`], or nil and the refusal.
-- One target that cannot receive refuses the message for all.
local function targets_of(at, count)
  local targets = {}
  for n = 1, count do
    local peer, box = ARGV[at + 2 * n - 2], KEYS[tonumber(ARGV[at + 2 * n - 1])]
    local value = redis.call('HGET', room, 'o:' .. peer)
    if not value then return nil, 'n' end
    local its_node, _, its_mailbox = owner(value)
    local full, head, bytes, in_lobby = mailbox_state(peer)
    -- A peer in the lobby receives no messages, and the sender must not learn that it is there.
    if in_lobby then return nil, 'n' end
    -- Before a refusal: counters of an expired stream are reset, and old entries are dropped.
    if full and not settle_empty(peer, box, head, bytes) then
      drop_old(peer, its_mailbox, box, life)
      if mailbox_state(peer) then return nil, 'b' end
    end
    targets[n] = { peer = peer, node = its_node, mailbox = its_mailbox, box = box }
  end
  return targets
end

local at = 17 -- after the 16 arguments above
for _ = 1, tonumber(ARGV[15]) do
  local id, address, body, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  at = at + 4
  local result
  if id ~= '' and tonumber(id) <= last then
    result = { 'd' }
  elseif address ~= 'p' and ARGV[14] ~= own[1] then
    results[#results + 1] = { 's' }
    break
  else
    local targets, refusal = targets_of(at, count)
    if targets then
      result = { 'w', unpack(spread(targets, me, topic, name, sender, id, 'f', body, kept)) }
      if id ~= '' then last = tonumber(id) end
    else
      result = { refusal }
    end
  end
  results[#results + 1] = result
  at = at + 2 * count
end
redis.call('PEXPIRE', KEYS[2], ARGV[16])
if last > stored then redis.call('HSET', room, 'l:' .. sender, text(last)) end
return results
