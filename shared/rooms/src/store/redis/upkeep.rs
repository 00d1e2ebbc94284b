//! The scripts for deadlines, leases, retention and usage: their arguments and replies.
//!
//! Owns: what a node does in the store without a request of a peer. Must not: call Redis; `mod.rs`
//! does.

use std::collections::BTreeMap;

use redis::Value;
use signalbox_protocol::id::{NodeId, PeerId, RoomId};
use signalbox_redis::{RedisScript, ReplyReader, ScriptCall, redis_keys};

use super::{add_body_keys, room_call, room_script};
use crate::{
    room::RoomCreator,
    store::{DueItem, NodeCensus, StoreLimits},
    usage::{UsageAmount, UsageKey, UtcDay},
};

/// The largest number of due rooms and mailboxes of one partition in one reply.
const MAX_DUE_ITEMS: usize = 256;

/// After this time a due item that is still due is returned again, in milliseconds.
const DUE_RETRY_MS: u64 = 2_000;

pub(super) static INVALIDATE_MAILBOX: RedisScript = room_script(include_str!("lua/invalidate_mailbox.lua"));
pub(super) static TRIM_MAILBOXES: RedisScript = room_script(include_str!("lua/trim_mailboxes.lua"));
pub(super) static UNLIST_NODE: RedisScript = room_script(include_str!("lua/unlist_node.lua"));
pub(super) static DUE_ITEMS: RedisScript =
    RedisScript::new(include_str!("lua/due_items.lua")).with_flags("allow-oom");
pub(super) static RENEW_LEASE: RedisScript =
    RedisScript::new(include_str!("lua/renew_lease.lua")).with_flags("allow-oom");
pub(super) static RESERVE_ROOM: RedisScript =
    RedisScript::new(include_str!("lua/reserve_room.lua")).with_flags("");
pub(super) static ADD_USAGE: RedisScript = RedisScript::new(include_str!("lua/add_usage.lua"));

pub(super) fn invalidate_mailbox_call(room: &RoomId, peer: &PeerId) -> ScriptCall {
    let mut call = room_call(room);
    call.add_arg(peer.as_str()).add_arg(room.as_str());
    call
}

pub(super) fn trim_mailboxes_call(
    room: &RoomId,
    peers: &[PeerId],
    room_version: u64,
    limits: &StoreLimits,
) -> ScriptCall {
    let mut call = room_call(room);
    call.add_key(redis_keys::due_key(redis_keys::partition_of_room(room)));
    add_body_keys(&mut call, room);
    call.add_arg(room.as_str()).add_arg(limits.entry_life_ms).add_arg(limits.max_deletion_delay_ms);
    call.add_arg(room_version);
    for peer in peers {
        call.add_key(redis_keys::mailbox_key(room, peer)).add_arg(peer.as_str());
    }
    call
}

pub(super) fn unlist_node_call(room: &RoomId, node: &NodeId) -> ScriptCall {
    let mut call = room_call(room);
    call.add_key(redis_keys::node_rooms_key(redis_keys::partition_of_room(room), node));
    call.add_arg(room.as_str()).add_arg(node.as_str());
    call
}

/// `None` without a partition.
pub(super) fn due_items_call(partitions: &[usize]) -> Option<ScriptCall> {
    let mut call = ScriptCall::in_partition(*partitions.first()?);
    partitions.iter().for_each(|partition| _ = call.add_key(redis_keys::due_key(*partition)));
    call.add_arg(MAX_DUE_ITEMS).add_arg(DUE_RETRY_MS);
    Some(call)
}

/// Reads `room` and `room peer`. The mailboxes are grouped by room.
pub(super) fn read_due_items(replies: Vec<Value>) -> Vec<DueItem> {
    let mut mailboxes: BTreeMap<RoomId, Vec<PeerId>> = BTreeMap::new();
    let mut due = Vec::new();
    for name in replies.into_iter().flat_map(read_texts) {
        let (room, peer) = name.split_once(' ').map_or((&*name, None), |(room, peer)| (room, Some(peer)));
        match (RoomId::parse(room), peer.map(PeerId::parse)) {
            (Ok(room), None) => due.push(DueItem::Room(room)),
            (Ok(room), Some(Ok(peer))) => mailboxes.entry(room).or_default().push(peer),
            _ => {}
        }
    }
    due.extend(mailboxes.into_iter().map(|(room, peers)| DueItem::Mailboxes(room, peers)));
    due
}

pub(super) fn renew_lease_call(node: &NodeId, limits: &StoreLimits) -> ScriptCall {
    let mut call = ScriptCall::on_key(redis_keys::NODES_KEY.to_owned());
    call.add_arg(node.as_str()).add_arg(limits.lease_ms);
    call.add_arg(limits.room_life_ms + limits.resume_window_ms);
    call
}

/// Reads whether the node had a lease, and the living and the dead nodes.
pub(super) fn read_census(reply: &mut ReplyReader) -> Option<NodeCensus> {
    let had_lease = reply.next_number()? == 1;
    let mut nodes = || {
        let ids = read_texts(reply.next_value()?);
        Some(ids.iter().filter_map(|id| NodeId::parse(id).ok()).collect())
    };
    Some(NodeCensus { had_lease, live_nodes: nodes()?, dead_nodes: nodes()? })
}

pub(super) fn reserve_room_call(
    creator: &RoomCreator,
    room: &RoomId,
    retention_ms: u64,
    max_rooms: u32,
) -> ScriptCall {
    let name = creator.unique_name();
    let mut call = ScriptCall::in_partition(redis_keys::partition_of_creator(&name));
    call.add_key(redis_keys::created_rooms_key(&name));
    call.add_arg(room.as_str()).add_arg(retention_ms).add_arg(max_rooms);
    call
}

pub(super) fn add_usage_call(
    node: &NodeId,
    batch_number: u64,
    day: UtcDay,
    amounts: &[(UsageKey, UsageAmount)],
    limits: &StoreLimits,
) -> ScriptCall {
    let mut call = ScriptCall::on_key(redis_keys::usage_key(&day.to_string()));
    call.add_arg(node.as_str()).add_arg(batch_number);
    call.add_arg(limits.usage.max_pairs).add_arg(limits.usage.retention_ms);
    for ((caller, room), amount) in amounts {
        call.add_arg(caller.to_string()).add_arg(room.to_string());
        call.add_arg(amount.joins).add_arg(amount.connected_ms);
    }
    call
}

/// Reads the names of rooms. Other texts are left out.
pub(super) fn read_room_ids(list: Value) -> Vec<RoomId> {
    read_texts(list).iter().filter_map(|name| RoomId::parse(name).ok()).collect()
}

fn read_texts(list: Value) -> Vec<String> {
    let mut list = ReplyReader::new(list);
    std::iter::from_fn(|| list.next_text()).collect()
}
