-- Commits a decision if the room still has the version that the decision was based on, and sends
-- its events. All or nothing.
-- KEYS: 1 room hash, 2 deadlines of the partition, 3 shared bodies, 4 peers whose mailboxes refer to
--       them, 5… sets of rooms by node, mailboxes
-- ARGV: 1 room instance, 2 version (0: the room must not exist), 3 node, 4 room name,
--       5 feed topic, 6 maximum number of entries of a mailbox, 7 entry life ms,
--       8 maximum life of any room ms, 9 resume window ms, 10 '1' if the room was empty before,
--       11 maximum deletion delay ms, 12 '1' if the room is empty and not kept,
--       13 settings (JSON) or '', 14 maximum life of this room ms,
--       15 time until which an empty room is kept,
--       16 maximum retention of deadlines, ms, 17 '1' if the room is empty,
--       18 sanctions (JSON; '[]' to delete them) or '',
--       then lists, each after its length:
--       members to write: peer, record, node or '-', epoch, mailbox version (used if the peer has
--         no mailbox), handle generation, '1' if the peer waits in the lobby, the resume window of a
--         peer that is detached now, ms
--       members to remove: peer, epoch, reason, token id or '', index in KEYS
--       tombstones to delete: peer · detached members: peer
--       nodes with their first peer in the room: index in KEYS
--       nodes without a peer in the room: index in KEYS
--       accepted ids: peer, id, ids of the peer that the node knows to be refused, as in the field r
--       events: about, kind, state or '' (see common.lua), body, number of targets, then for each target: peer, index in KEYS
--       peers that nodes must resync: node, peers separated by commas
--       the webhook queue, if there is one: index in KEYS of the stream and of its state,
--         maximum number of events, event life ms
--       feed lines
-- Returns {'ok', replication id, {peer, mailbox version, seq, …} for each event (targets of this
--         node)}
--       | {'conflict', replication id, now, the hash (flat; empty if there is no room)}
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
local function bound_mailbox(member, mailbox_key, length, unacked_messages, max_entries)
  if length - unacked_messages > max_entries / 4 then
    thin_out(member.peer, member.mailbox_version, mailbox_key, math.floor(max_entries / 8))
  end
  while length > max_entries and redis.call('XLEN', mailbox_key) > max_entries do
    local first = redis.call('XRANGE', mailbox_key, '-', '+', 'COUNT', 1)[1]
    member.acked_seq = tonumber(string.match(first[1], '-(%d+)$'))
    sweep(member, mailbox_key)
  end
end

local me, name = ARGV[3], ARGV[4]
local window = tonumber(ARGV[9])
local mailbox_limits = {
  -- Room events are written even to a full mailbox, so it has space for a second backlog.
  max_entries = tonumber(ARGV[6]),
  entry_life = tonumber(ARGV[7]),
  max_deletion_delay = tonumber(ARGV[11]),
  max_room_retention = ARGV[16],
}

local found = heal({ 'lin', 'hl', 'inc', 'ver' })
local version = tonumber(ARGV[2])
local matches
if version == 0 then
  matches = not found
else
  matches = found and found[3] == ARGV[1] and tonumber(found[4]) == version
end

local at = 19
local function take()
  at = at + 1
  return ARGV[at - 1]
end
local function each(handle)
  for _ = 1, tonumber(take()) do handle() end
end

-- A handle that the client confirmed after the decision makes the decision invalid.
local puts = {}
each(function()
  local put = {
    peer = take(), record = take(), node = take(), epoch = take(), mailbox_version = take(),
    handle = take(), waits = take(), window = take(),
  }
  local confirmed = redis.call('HGET', room, 'g:' .. put.peer)
  if confirmed and tonumber(confirmed) > tonumber(put.handle) then matches = false end
  puts[#puts + 1] = put
end)
if not matches then return { 'conflict', unpack(state()) } end

if version == 0 then redis.call('HSET', room, 'inc', ARGV[1], 'lin', replication_id, 'hl', text(now)) end
if ARGV[10] == '1' then
  redis.call('HSET', room, 'beg', text(now))
  redis.call('HDEL', room, 'wb')
end
if ARGV[13] ~= '' then redis.call('HSET', room, 'set', ARGV[13]) end
if ARGV[18] == '[]' then
  redis.call('HDEL', room, 'san')
elseif ARGV[18] ~= '' then
  redis.call('HSET', room, 'san', ARGV[18])
end
local began = redis.call('HGET', room, 'beg')
if began and (ARGV[10] == '1' or ARGV[13] ~= '') then
  redis.call('HSET', room, 'end', text(tonumber(began) + math.min(tonumber(ARGV[14]), tonumber(ARGV[8]))))
end
redis.call('HSET', room, 'ver', text(version + 1))
for _, put in ipairs(puts) do
  local peer = put.peer
  local member = read_member(peer)
  local owner_value = put.node .. ' ' .. put.epoch .. ' ' .. (member and member.mailbox_version or put.mailbox_version)
  redis.call('HSET', room, 'p:' .. peer, put.record, 'o:' .. peer, owner_value, 'g:' .. peer, put.handle)
  redis.call('HDEL', room, 't:' .. peer)
  if member then
    member.node, member.epoch = put.node, put.epoch
  else
    member = add_member(peer, owner_value, nil)
  end
  member.in_lobby, member.is_changed = tonumber(put.waits), true
  if put.node ~= '-' then
    redis.call('HDEL', room, 'd:' .. peer)
  else
    redis.call('HSETNX', room, 'd:' .. peer, text(now + tonumber(put.window)))
  end
end
local bodies_key, holders_key, held_bodies = KEYS[3], KEYS[4], false
each(function()
  local peer = take()
  local member = read_member(peer)
  if member then settle_all(member) end
  members[peer] = nil
  if redis.call('ZREM', holders_key, peer) == 1 then held_bodies = true end
  redis.call('HDEL', room, 'p:' .. peer, 'o:' .. peer, 'g:' .. peer, 'd:' .. peer, 'm:' .. peer, 'x:' .. peer,
    'r:' .. peer)
  local epoch, reason, token = take(), take(), take()
  redis.call('HSET', room, 't:' .. peer, epoch .. ' ' .. text(now + window) .. ' ' .. reason .. ' ' .. token)
  redis.call('DEL', KEYS[tonumber(take())])
  redis.call('ZREM', KEYS[2], name .. ' ' .. peer)
end)
if held_bodies then trim_bodies(bodies_key, holders_key) end
each(function() redis.call('HDEL', room, 't:' .. take()) end)
if ARGV[17] == '1' then redis.call('HDEL', room, 'beg', 'end') end
local kept_until, ends = tonumber(ARGV[15]), tonumber(redis.call('HGET', room, 'end') or 0)
-- An empty room has no end. It is due when its retention ends.
local due = ends > 0 and ends or kept_until
each(function()
  local window_end = redis.call('HGET', room, 'd:' .. take())
  if window_end then due = math.min(due, tonumber(window_end)) end
end)
local longest = text(tonumber(ARGV[8]) + window)
each(function()
  local rooms_of_node = KEYS[tonumber(take())]
  redis.call('SADD', rooms_of_node, name)
  redis.call('PEXPIRE', rooms_of_node, longest)
end)
each(function() redis.call('SREM', KEYS[tonumber(take())], name) end)
each(function()
  local member, id, refused = read_member(take()), tonumber(take()), take()
  if member and id > member.last_id then
    keep_refused(member.peer, parse_refused(refused), member.last_id, id)
    member.last_id, member.is_changed = id, true
  end
end)
-- A mailbox gets all its entries at once: that is cheaper than one event after the other.
local events, readers, reader_of = {}, {}, {}
each(function()
  local event = { from = take(), id = '', kind = take(), state = take(), body = take(), written = {} }
  events[#events + 1] = event
  for _ = 1, tonumber(take()) do
    local peer, mailbox_key = take(), KEYS[tonumber(take())]
    local reader = reader_of[peer]
    if not reader then
      reader = { member = read_member(peer), mailbox_key = mailbox_key, events = {} }
      reader_of[peer] = reader
      readers[#readers + 1] = reader
    end
    reader.events[#reader.events + 1] = event
  end
end)
for _, reader in ipairs(readers) do
  local member, mailbox_key, has_event = reader.member, reader.mailbox_key, false
  local first_seq = write(member, mailbox_key, name, reader.events, mailbox_limits)
  for n, event in ipairs(reader.events) do
    event.written[#event.written + 1] = { member = member, seq = first_seq + n - 1 }
    has_event = has_event or event.kind ~= 'f'
  end
  if has_event and member.last_seq - member.acked_seq > mailbox_limits.max_entries / 4 then
    sweep(member, mailbox_key)
    local length, unacked_messages = redis.call('XLEN', mailbox_key), member.messages - member.acked_messages
    bound_mailbox(member, mailbox_key, length, unacked_messages, mailbox_limits.max_entries)
  end
end
save_members()
local results = { 'ok', replication_id }
for _, event in ipairs(events) do
  results[#results + 1] = announce(event.written, me, name, event)
end
publish()
each(function()
  local node = take()
  redis.call('SPUBLISH', node_topics .. node, '!' .. name .. ' ' .. take())
end)
-- Drops events beyond the bound: of the root that has most, those of its room that has most, the
-- oldest first. So neither a tenant nor a room pushes out the events of another. It looks at the
-- oldest 256 and at the newest 512, among which the events of a flood are, and it drops a few more
-- than it must, so that a full stream is seldom read.
local function drop_excess(stream, excess)
  local of_room, by_rank, of_root, by_share, ids = {}, {}, {}, {}, {}
  local entries = redis.call('XRANGE', stream, '-', '+', 'COUNT', 768)
  if redis.call('XLEN', stream) > 768 then
    local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 512)
    for n = 1, 512 do entries[256 + n] = newest[513 - n] end
  end
  for n = #entries, 1, -1 do
    local line = entries[n][2][2]
    local of = string.match(line, '"room":"([^"]*)"') or ''
    local rank = (of_room[of] or 0) + 1
    of_room[of], by_rank[rank] = rank, by_rank[rank] or {}
    table.insert(by_rank[rank], { entries[n][1], string.match(line, '"root":"([^"]*)"') or of })
  end
  for rank = 1, #by_rank do
    for _, entry in ipairs(by_rank[rank]) do
      local share = (of_root[entry[2]] or 0) + 1
      of_root[entry[2]], by_share[share] = share, by_share[share] or {}
      table.insert(by_share[share], entry[1])
    end
  end
  for share = #by_share, 1, -1 do
    for n = #by_share[share], 1, -1 do
      if #ids < excess then ids[#ids + 1] = by_share[share][n] end
    end
  end
  return redis.call('XDEL', stream, unpack(ids))
end
-- Events for webhooks are stored in the same step: pub/sub would lose them with a connection.
local record = function() end
each(function()
  local stream, progress = KEYS[tonumber(take())], KEYS[tonumber(take())]
  local max_events, life = tonumber(take()), tonumber(take())
  record = function(line)
    redis.call('XADD', stream, '*', 'd', line)
    redis.call('PEXPIRE', stream, life)
    local lost = redis.call('XTRIM', stream, 'MINID', text(now - life))
    local excess = redis.call('XLEN', stream) - max_events
    if excess > 0 then
      excess = excess + math.min(math.floor(max_events / 16), 31)
      lost = lost + drop_excess(stream, math.min(excess, 256))
    end
    if lost > 0 then
      redis.call('HINCRBY', progress, 'lost', lost)
      redis.call('PEXPIRE', progress, life)
    end
  end
end)
each(function()
  local line = take()
  redis.call('SPUBLISH', ARGV[5], line)
  record(line)
end)
if ARGV[12] == '1' then
  -- Only the tombstones remain, for the resume window.
  redis.call('HDEL', room, 'set', 'san', 'beg', 'end')
  redis.call('PEXPIRE', room, window)
  redis.call('ZREM', KEYS[2], name)
else
  redis.call('ZADD', KEYS[2], text(due), name)
  redis.call('PEXPIRE', KEYS[2], ARGV[16])
  -- The TTL covers the whole life, because a room may be silent for hours. It is set when the life
  -- begins, the settings change, or the last member leaves.
  if ARGV[10] == '1' or ARGV[13] ~= '' or ARGV[17] == '1' then
    redis.call('PEXPIRE', room, text(math.max(ends, kept_until, now) - now + window))
  end
end
return results
