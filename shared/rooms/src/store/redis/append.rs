//! Appends a sender's messages: the call of the script, its arguments and its reply.
//!
//! Owns: the order of the arguments in `lua/append.lua`. Must not: choose a server; the client does.

use redis::Value;
use signalbox_protocol::{
    ErrorCode,
    id::{NodeId, PeerId, RoomId},
};
use signalbox_redis::{MemoryLevel, RedisScript, ReplyReader, ScriptCall, redis_keys};

use super::{COMMON_LUA, RedisRoomStore, add_body_keys, add_target, read_deliveries, room_call};
use crate::store::{
    AppendBatch, AppendError, AppendResult, AppendResults, BacklogBound, EntryKind, MessageTarget,
    OutgoingEntry, StoreLimits, StoreUnavailable,
};

const LUA: &str = include_str!("lua/append.lua");

/// A full server refuses it before its first step. In the mode without flags, a step that deletes would
/// let the later steps pass.
pub(super) static APPEND: RedisScript = RedisScript::new(LUA).with_common(COMMON_LUA).with_flags("");

/// An append without messages. A full server executes it, because it frees memory.
pub(super) static ACKNOWLEDGE: RedisScript =
    RedisScript::new(LUA).with_common(COMMON_LUA).with_flags("allow-oom");

impl RedisRoomStore {
    pub(crate) async fn append(
        &self,
        room: &RoomId,
        node: &NodeId,
        batch: &AppendBatch,
    ) -> Result<AppendResults, AppendError> {
        let script = if batch.entries.is_empty() { &ACKNOWLEDGE } else { &APPEND };
        let level = self.client.memory_level(redis_keys::partition_of_room(room));
        let limits = self.limits().at_memory_level(level);
        let call = append_call(room, node, batch, &limits);
        let mut reply = ReplyReader::new(self.run_room_script(script, room, call).await?);
        match reply.next_text().as_deref() {
            Some("ok") => {
                self.record_acked_write(room, &mut reply)?;
                read_results(&mut reply, batch, level)
            }
            Some("no") => Err(AppendError::NotOwner),
            _ => Err(StoreUnavailable.into()),
        }
    }
}

/// The arguments, in the order that the script documents.
fn append_call(room: &RoomId, node: &NodeId, batch: &AppendBatch, limits: &StoreLimits) -> ScriptCall {
    let mut call = room_call(room);
    call.add_key(redis_keys::due_key(redis_keys::partition_of_room(room)));
    call.add_key(redis_keys::mailbox_key(room, &batch.sender));
    add_body_keys(&mut call, room);
    call.add_arg(batch.sender.as_str()).add_arg(node.as_str()).add_arg(batch.epoch);
    call.add_arg(batch.mailbox_version).add_arg(batch.acked_seq).add_arg(batch.known_last_id);
    match batch.handle_generation {
        Some(generation) => call.add_arg(generation),
        None => call.add_arg(""),
    };
    call.add_arg(room.as_str()).add_arg(&packed_limits(limits)[..]).add_arg(batch.token.grant());
    call.add_arg(batch.members.version).add_arg(batch.refused.to_text()).add_arg(batch.entries.len());
    batch.entries.iter().for_each(|entry| add_entry(&mut call, room, batch, entry));
    call
}

/// The limits as the script unpacks them: one argument is read faster than eight.
fn packed_limits(limits: &StoreLimits) -> Vec<u8> {
    let backlogs = [
        limits.backlog,
        limits.backlog_bytes,
        limits.lag_bytes,
        limits.room_backlog_bytes,
        limits.grant_backlog_bytes,
    ];
    let times = [limits.entry_life_ms, limits.max_deletion_delay_ms, limits.max_room_retention_ms()];
    backlogs.iter().chain(&times).flat_map(|limit| (*limit as f64).to_be_bytes()).collect()
}

fn add_entry(call: &mut ScriptCall, room: &RoomId, batch: &AppendBatch, entry: &OutgoingEntry) {
    match entry.id {
        Some(id) => call.add_arg(id),
        None => call.add_arg(""),
    };
    let requires_room_version = entry.requires_room_version || entry.target == MessageTarget::Room;
    call.add_arg(u8::from(requires_room_version));
    match &entry.target {
        MessageTarget::Peer(peer) => {
            call.add_arg(&*entry.body).add_arg(1);
            add_target(call, room, peer);
        }
        MessageTarget::Withheld => {
            call.add_arg("").add_arg(0);
        }
        MessageTarget::Room => {
            let others = || batch.members.peers.iter().filter(|peer| **peer != batch.sender);
            call.add_arg(&*entry.body).add_arg(others().count());
            others().for_each(|peer| add_target(call, room, peer));
        }
    }
}

/// Reads the version of the sender's mailbox and the result of each message. `level` is the one
/// with which the call was made.
pub(super) fn read_results(
    reply: &mut ReplyReader,
    batch: &AppendBatch,
    level: MemoryLevel,
) -> Result<AppendResults, AppendError> {
    let mailbox_version = reply.next_number().ok_or(StoreUnavailable)?;
    let results = batch
        .entries
        .iter()
        .map_while(|entry| reply.next_value().map(|result| read_result(result, &batch.sender, entry, level)));
    Ok(AppendResults { mailbox_version, results: results.collect::<Result<_, _>>()? })
}

fn read_result(
    result: Value,
    sender: &PeerId,
    entry: &OutgoingEntry,
    level: MemoryLevel,
) -> Result<AppendResult, AppendError> {
    let mut reply = ReplyReader::new(result);
    match reply.next_text().as_deref() {
        Some("w") => {
            let kind = EntryKind::Forwarded;
            Ok(AppendResult::Written(read_deliveries(reply, sender, entry.id, kind, &entry.body).into()))
        }
        Some("d") => Ok(AppendResult::Duplicate),
        Some("e") => {
            let code = reply.next_text().and_then(|code| ErrorCode::parse(&code));
            Ok(AppendResult::RefusedBefore(code.unwrap_or(ErrorCode::Internal)))
        }
        Some("n") => Ok(AppendResult::NoSuchPeer),
        Some("b") => Ok(AppendResult::Backlogged(BacklogBound::Mailbox)),
        Some("r") if level != MemoryLevel::Normal => Ok(AppendResult::Backlogged(BacklogBound::Memory)),
        Some("r") => Ok(AppendResult::Backlogged(BacklogBound::Room)),
        Some("g") => Ok(AppendResult::Backlogged(BacklogBound::Grant)),
        Some("s") => Ok(AppendResult::Stale),
        _ => Err(AppendError::Unavailable(StoreUnavailable)),
    }
}
