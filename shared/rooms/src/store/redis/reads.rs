//! The scripts that read rooms and mailboxes: their arguments and replies.
//!
//! Owns: what one peer, or one room, looks like in the store. Must not: call Redis; `mod.rs` does.

use redis::Value;
use signalbox_protocol::id::{PeerId, RoomId};
use signalbox_redis::{RedisScript, ReplyReader, ScriptCall, redis_keys};

use super::{
    commit::{parse_owner, parse_tombstone, read_loaded_room, read_pairs},
    room_call, room_script,
};
use crate::{
    room::ReplicationId,
    store::{
        Entry, EntryContent, EntryKind, MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, MailboxHead, MailboxPage,
        MailboxReader, PeerStatus, RefusedIds, RenewedMailbox,
    },
};

pub(super) static LOAD_ROOM: RedisScript = room_script(include_str!("lua/load_room.lua"));
pub(super) static READ_MAILBOX: RedisScript = room_script(include_str!("lua/read_mailbox.lua"));
pub(super) static RENEW_MAILBOX: RedisScript = room_script(include_str!("lua/renew_mailbox.lua"));
pub(super) static MAILBOX_HEADS: RedisScript = room_script(include_str!("lua/mailbox_heads.lua"));

pub(super) fn read_mailbox_call(room: &RoomId, reader: &MailboxReader, seq: u64) -> ScriptCall {
    let mut call = room_call(room);
    call.add_key(redis_keys::mailbox_key(room, &reader.peer)).add_key(redis_keys::bodies_key(room));
    call.add_arg(reader.peer.as_str()).add_arg(seq).add_arg(MAX_PAGE_ENTRIES).add_arg(MAX_PAGE_BYTES);
    call
}

/// Reads the owner or the tombstone of a peer, and a page of its mailbox.
pub(super) fn read_peer_status(reply: &mut ReplyReader, reader: &MailboxReader) -> Option<PeerStatus> {
    let replication_id: ReplicationId = reply.next_text()?.into();
    let _exists = reply.next_number()?;
    let (record, tombstone) = (reply.next_text()?, reply.next_text()?);
    let found = parse_owner(&record);
    let owner = found.as_ref().map(|(node, epoch, _)| (node.as_ref(), *epoch));
    let page = || read_page(reply, &replication_id).unwrap_or_default();
    let left = parse_tombstone(&tombstone).map(|tombstone| tombstone.reason);
    Some(PeerStatus::from_record(reader, owner, left, &replication_id, page))
}

fn read_page(reply: &mut ReplyReader, replication_id: &ReplicationId) -> Option<MailboxPage> {
    let (mailbox_version, last_seq) = (reply.next_number()?, reply.next_number()?);
    let (acked_seq, last_id) = (reply.next_number()?, reply.next_number()?);
    let dropped_seq = reply.next_number()?;
    let refused = RefusedIds::from_text(&reply.next_text()?);
    let entries = read_entries(reply.next_value()?);
    Some(MailboxPage {
        mailbox_version,
        last_seq,
        acked_seq,
        dropped_seq,
        last_id,
        refused,
        replication_id: replication_id.clone(),
        entries,
    })
}

fn read_entries(page: Value) -> Vec<Entry> {
    let mut page = ReplyReader::new(page);
    let mut entries = Vec::new();
    while let Some(entry) = page.next_value() {
        let mut entry = ReplyReader::new(entry);
        let (Some(id), Some(fields)) = (entry.next_text(), entry.next_value()) else { continue };
        entries.extend(read_entry(&id, fields));
    }
    entries
}

fn read_entry(stream_id: &str, fields: Value) -> Option<Entry> {
    let seq = stream_id.split_once('-')?.1.parse().ok()?;
    let fields = read_pairs(fields);
    let content = EntryContent {
        from: PeerId::parse(fields.get("f")?).ok()?,
        id: fields.get("i")?.parse().ok(),
        kind: EntryKind::from_code(fields.get("k")?),
        body: fields.get("d")?.as_str().into(),
    };
    Some(Entry { seq, content: content.into() })
}

pub(super) fn renew_mailbox_call(
    room: &RoomId,
    reader: &MailboxReader,
    mailbox_version: u64,
    known_last_id: u64,
    refused: &RefusedIds,
) -> ScriptCall {
    let mut call = room_call(room);
    call.add_arg(reader.peer.as_str()).add_arg(reader.node.as_str()).add_arg(reader.epoch);
    call.add_arg(mailbox_version).add_arg(known_last_id).add_arg(refused.to_text());
    call
}

/// Reads the new mailbox and the room at that moment.
pub(super) fn read_renewed_mailbox(reply: &mut ReplyReader) -> Option<RenewedMailbox> {
    let (mailbox_version, base_seq) = (reply.next_number()?, reply.next_number()?);
    let last_id = reply.next_number()?;
    let refused = RefusedIds::from_text(&reply.next_text()?);
    Some(RenewedMailbox {
        mailbox_version,
        base_seq,
        last_id,
        refused,
        state: read_loaded_room(reply)?.room?,
    })
}

pub(super) fn mailbox_heads_call(room: &RoomId, peers: &[PeerId]) -> ScriptCall {
    let mut call = room_call(room);
    peers.iter().for_each(|peer| _ = call.add_arg(peer.as_str()));
    call
}

/// Reads the owner and the last entry of each mailbox.
pub(super) fn read_mailbox_heads(heads: Value) -> Vec<MailboxHead> {
    let mut heads = ReplyReader::new(heads);
    std::iter::from_fn(|| {
        let mut head = ReplyReader::new(heads.next_value()?);
        let (record, last_seq) = (head.next_text()?, head.next_number()?);
        let (node, epoch, mailbox_version) = parse_owner(&record).unwrap_or_default();
        Some(MailboxHead { owner: node.map(|node| (node, epoch)), mailbox_version, last_seq })
    })
    .collect()
}
