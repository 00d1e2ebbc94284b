//! Commits a decision: the call of the script, its arguments and its reply, and the room hash.
//!
//! Owns: the order of the arguments in `lua/commit.lua`, and the fields of the room hash. Must not:
//! choose a server; the client does.

use std::{collections::BTreeMap, sync::Arc};

use redis::Value;
use signalbox_protocol::{
    LeaveReason,
    id::{NodeId, PeerId, RoomId, TokenId},
};
use signalbox_redis::{RedisScript, ReplyReader, ScriptCall, redis_keys, value_text};

use super::{COMMON_LUA, RedisRoomStore, add_body_keys, add_target, read_deliveries, room_call};
use crate::{
    room::{Member, PeerAttachment, ReplicationId, RoomState, SanctionList, Tombstone},
    store::{Commit, CommitResult, Delivery, LoadedRoom, StateKind, StoreLimits, StoreUnavailable},
};

const LUA: &str = include_str!("lua/commit.lua");

pub(super) static COMMIT: RedisScript = RedisScript::new(LUA).with_common(COMMON_LUA);

/// A commit that adds no data. A full server executes it.
pub(super) static COMMIT_WITHOUT_GROWTH: RedisScript =
    RedisScript::new(LUA).with_common(COMMON_LUA).with_flags("allow-oom");

impl RedisRoomStore {
    pub(crate) async fn commit(
        &self,
        room: &RoomId,
        node: &NodeId,
        commit: &Commit,
    ) -> Result<CommitResult, StoreUnavailable> {
        let script = if commit.adds_data { &COMMIT } else { &COMMIT_WITHOUT_GROWTH };
        let call = commit_call(room, node, commit, &self.limits());
        let mut reply = ReplyReader::new(self.run_room_script(script, room, call).await?);
        match reply.next_text().as_deref() {
            Some("ok") => {
                let replication_id = self.record_acked_write(room, &mut reply)?;
                let deliveries = read_event_deliveries(&mut reply, commit);
                Ok(CommitResult::Applied(replication_id, deliveries))
            }
            Some("conflict") => {
                read_loaded_room(&mut reply).map(CommitResult::Conflict).ok_or(StoreUnavailable)
            }
            _ => Err(StoreUnavailable),
        }
    }
}

/// The arguments, in the order that the script documents.
fn commit_call(room: &RoomId, node: &NodeId, commit: &Commit, limits: &StoreLimits) -> ScriptCall {
    let mut call = room_call(room);
    call.add_key(redis_keys::due_key(redis_keys::partition_of_room(room)));
    add_body_keys(&mut call, room);
    call.add_arg(&*commit.instance_id).add_arg(commit.version).add_arg(node.as_str()).add_arg(room.as_str());
    call.add_topic(redis_keys::feed_topic(room));
    call.add_arg(2 * limits.backlog).add_arg(limits.entry_life_ms);
    call.add_arg(limits.room_life_ms).add_arg(limits.resume_window_ms);
    call.add_arg(u8::from(commit.opens_room)).add_arg(limits.max_deletion_delay_ms);
    call.add_arg(u8::from(commit.ends_room));
    call.add_arg(commit.settings.as_ref().map_or_else(String::new, |settings| settings.to_json()));
    call.add_arg(commit.max_life_ms).add_arg(commit.kept_until);
    call.add_arg(limits.max_room_retention_ms()).add_arg(u8::from(commit.leaves_room_empty));
    call.add_arg(commit.sanctions.as_ref().map_or_else(String::new, |sanctions| sanctions.to_json()));
    add_members(&mut call, room, commit, limits.resume_window_ms);
    add_nodes(&mut call, room, commit);
    add_events(&mut call, room, commit);
    add_feed_lines(&mut call, room, commit, limits);
    call
}

fn add_members(call: &mut ScriptCall, room: &RoomId, commit: &Commit, resume_window_ms: u64) {
    call.add_list(&commit.written_members, |call, (peer, member)| {
        let record = serde_json::to_string(member).unwrap_or_default();
        call.add_arg(peer.as_str()).add_arg(record).add_arg(member.owner().map_or("-", NodeId::as_str));
        call.add_arg(member.epoch).add_arg(member.mailbox_version);
        call.add_arg(member.generation).add_arg(u8::from(member.waiting));
        call.add_arg(commit.window_ms(member, resume_window_ms));
    });
    call.add_list(&commit.removed_peers, |call, (peer, tombstone)| {
        call.add_arg(peer.as_str()).add_arg(tombstone.epoch).add_arg(tombstone.reason.as_str());
        call.add_arg(tombstone.token.as_ref().map_or("", TokenId::as_str));
        call.add_key_index(redis_keys::mailbox_key(room, peer));
    });
    call.add_list(&commit.expired_tombstones, |call, peer| _ = call.add_arg(peer.as_str()));
    call.add_list(&commit.detached_peers, |call, peer| _ = call.add_arg(peer.as_str()));
}

fn add_nodes(call: &mut ScriptCall, room: &RoomId, commit: &Commit) {
    let partition = redis_keys::partition_of_room(room);
    for nodes in [&commit.added_nodes, &commit.removed_nodes] {
        call.add_list(nodes, |call, node| {
            _ = call.add_key_index(redis_keys::node_rooms_key(partition, node));
        });
    }
}

fn add_events(call: &mut ScriptCall, room: &RoomId, commit: &Commit) {
    call.add_list(&commit.accepted_ids, |call, accepted| {
        call.add_arg(accepted.peer.as_str()).add_arg(accepted.id).add_arg(accepted.refused.to_text());
    });
    call.add_list(&commit.events, |call, event| {
        call.add_arg(event.about_peer.as_str()).add_arg(event.kind.code());
        call.add_arg(event.state.map_or("", StateKind::code)).add_arg(&*event.body);
        call.add_list(&event.targets, |call, peer| add_target(call, room, peer));
    });
    call.add_list(&commit.resync_requests, |call, (node, peers)| {
        let peers: Vec<&str> = peers.iter().map(PeerId::as_str).collect();
        call.add_arg(node.as_str()).add_arg(peers.join(","));
    });
}

fn add_feed_lines(call: &mut ScriptCall, room: &RoomId, commit: &Commit, limits: &StoreLimits) {
    let partition = redis_keys::partition_of_room(room);
    let webhooks = limits.webhooks.filter(|_| !commit.feed_lines.is_empty());
    call.add_list(webhooks.as_slice(), |call, webhooks| {
        call.add_key_index(redis_keys::webhook_queue_key(partition));
        call.add_key_index(redis_keys::webhook_state_key(partition));
        call.add_arg(webhooks.max_events).add_arg(webhooks.event_life_ms);
    });
    call.add_list(&commit.feed_lines, |call, line| _ = call.add_arg(&**line));
}

/// Reads the entries that the events of a commit became for peers of this node.
pub(super) fn read_event_deliveries(reply: &mut ReplyReader, commit: &Commit) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for event in &commit.events {
        let entries = ReplyReader::new(reply.next_value().unwrap_or(Value::Nil));
        deliveries.extend(read_deliveries(entries, &event.about_peer, None, event.kind, &event.body));
    }
    deliveries
}

/// Reads a room as scripts return it: replication id, time, room hash.
pub(super) fn read_loaded_room(reply: &mut ReplyReader) -> Option<LoadedRoom> {
    let replication_id: ReplicationId = reply.next_text()?.into();
    let now = reply.next_number()?;
    let room = reply.next_value().and_then(|hash| read_room_hash(hash, &replication_id, now));
    Some(LoadedRoom { replication_id, now, room })
}

/// Reads a room hash. `None` if there is no room.
fn read_room_hash(hash: Value, replication_id: &ReplicationId, now: u64) -> Option<RoomState> {
    let fields = read_pairs(hash);
    let mut state = RoomState::new(fields.get("inc")?.as_str().into(), replication_id.clone());
    state.version = fields.get("ver")?.parse().ok()?;
    state.ends_at = fields.get("end").and_then(|end| end.parse().ok()).unwrap_or(0);
    state.started_at = fields.get("beg").and_then(|start| start.parse().ok()).unwrap_or(0);
    if let Some(settings) = fields.get("set").and_then(|json| serde_json::from_str(json).ok()) {
        state.settings = Arc::new(settings);
    }
    if let Some(json) = fields.get("san") {
        state.sanctions = Arc::new(SanctionList::from_json(json));
    }
    state.read_at = now;
    for (field, value) in &fields {
        if let Some(peer) = parse_peer_field(field, "p:") {
            state.members.extend(read_member(&fields, &peer, value).map(|member| (peer, Arc::new(member))));
        } else if let Some(peer) = parse_peer_field(field, "t:") {
            state.tombstones.extend(parse_tombstone(value).map(|tombstone| (peer, tombstone)));
        }
    }
    Some(state)
}

fn parse_peer_field(field: &str, prefix: &str) -> Option<PeerId> {
    PeerId::parse(field.strip_prefix(prefix)?).ok()
}

fn read_member(fields: &BTreeMap<String, String>, peer: &PeerId, record: &str) -> Option<Member> {
    let number = |field: &str| fields.get(&format!("{field}:{peer}")).and_then(|text| text.parse().ok());
    let (owner, epoch, mailbox_version) = parse_owner(fields.get(&format!("o:{peer}"))?)?;
    let attachment = match owner {
        Some(node) => PeerAttachment::Attached(node),
        None => PeerAttachment::Detached(number("d").unwrap_or(0)),
    };
    let generation = number("g").unwrap_or(1);
    Some(Member { attachment, epoch, generation, mailbox_version, ..serde_json::from_str(record).ok()? })
}

/// Reads `node epoch mailbox-version`. The node is `-` if the peer has no owner.
pub(super) fn parse_owner(value: &str) -> Option<(Option<NodeId>, u64, u64)> {
    let mut words = value.split(' ');
    let node = words.next().and_then(|node| NodeId::parse(node).ok());
    Some((node, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

pub(super) fn parse_tombstone(value: &str) -> Option<Tombstone> {
    let mut words = value.split(' ');
    let (epoch, expires_at) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let reason = LeaveReason::parse(words.next()?)?;
    let token = words.next().and_then(|token| TokenId::parse(token).ok());
    Some(Tombstone { epoch, expires_at, reason, token })
}

/// Reads fields and values of a hash or of a stream entry.
pub(super) fn read_pairs(pairs: Value) -> BTreeMap<String, String> {
    match pairs {
        Value::Map(pairs) => {
            let texts = |(field, value)| Some((value_text(field)?, value_text(value)?));
            pairs.into_iter().filter_map(texts).collect()
        }
        list => {
            let mut flat = ReplyReader::new(list);
            // A value that is no text, such as a packed mailbox, is for the scripts alone.
            let pairs = std::iter::from_fn(|| Some((flat.next_text()?, flat.next_value()?)));
            pairs.filter_map(|(field, value)| Some((field, value_text(value)?))).collect()
        }
    }
}
