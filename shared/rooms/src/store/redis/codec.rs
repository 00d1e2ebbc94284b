//! Reading what scripts and topics say.

use std::{collections::BTreeMap, sync::Arc};

use redis::Value;
use signalbox_protocol::{
    LeaveReason,
    id::{NodeId, PeerId, RoomId},
};

use crate::{
    room::{Member, PeerAttachment, ReplicationId, RoomState, Tombstone},
    store::{
        AppendError, AppendResult, Delivery, DueItem, Entry, EntryKind, LoadedRoom, MailboxHead, MailboxPage,
        MailboxReader, NodeCensus, OutgoingEntry, PeerStatus, RenewedMailbox, StoreUnavailable,
    },
};

/// A reply that is a list, read from its front.
pub(super) struct ReplyReader(std::vec::IntoIter<Value>);

impl ReplyReader {
    pub(super) fn new(value: Value) -> Self {
        Self(match value {
            Value::Array(items) => items.into_iter(),
            _ => Vec::new().into_iter(),
        })
    }

    pub(super) fn next_value(&mut self) -> Option<Value> {
        self.0.next()
    }

    pub(super) fn next_text(&mut self) -> Option<String> {
        self.next_value().and_then(value_to_text)
    }

    pub(super) fn next_number(&mut self) -> Option<u64> {
        self.next_value().and_then(value_to_number)
    }

    pub(super) fn remaining_values(self) -> Value {
        Value::Array(self.0.collect())
    }
}

pub(super) fn value_to_text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

fn value_to_number(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        other => value_to_text(other)?.parse().ok(),
    }
}

pub(super) fn encode_kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Forwarded => "f",
        EntryKind::RoomEvent => "m",
        EntryKind::PeerEvent => "p",
        EntryKind::PermissionsChanged => "s",
    }
}

fn decode_kind(text: &str) -> EntryKind {
    match text {
        "p" => EntryKind::PeerEvent,
        "m" => EntryKind::RoomEvent,
        "s" => EntryKind::PermissionsChanged,
        _ => EntryKind::Forwarded,
    }
}

/// Reads `peer, mailbox, seq, …` of one body.
pub(super) fn read_deliveries(
    value: Option<Value>,
    from: &PeerId,
    id: Option<u64>,
    kind: EntryKind,
    body: &Arc<str>,
) -> Vec<Delivery> {
    let mut flat = ReplyReader::new(value.unwrap_or(Value::Nil));
    let mut deliveries = Vec::new();
    while let (Some(peer), Some(mailbox), Some(seq)) =
        (flat.next_text(), flat.next_number(), flat.next_number())
    {
        let Ok(peer) = PeerId::parse(&peer) else { continue };
        let entry = Entry { seq, from: from.clone(), id, kind, body: body.clone() };
        deliveries.push(Delivery { peer, mailbox_version: mailbox, entry });
    }
    deliveries
}

/// Reads a room as scripts return it: lineage, now, the hash.
pub(super) fn read_loaded_room(reply: &mut ReplyReader) -> Option<LoadedRoom> {
    let lineage: ReplicationId = reply.next_text()?.into();
    let now = reply.next_number()?;
    let room = reply.next_value().and_then(|hash| read_room_state(hash, &lineage, now));
    Some(LoadedRoom { replication_id: lineage, now, room })
}

/// Reads a room hash. None where there is none.
fn read_room_state(hash: Value, lineage: &ReplicationId, now: u64) -> Option<RoomState> {
    let fields = read_pairs(hash);
    let mut state = RoomState::new(fields.get("inc")?.as_str().into(), lineage.clone());
    state.version = fields.get("ver")?.parse().ok()?;
    state.ends_at = fields.get("end").and_then(|end| end.parse().ok()).unwrap_or(0);
    state.started_at = fields.get("beg").and_then(|began| began.parse().ok()).unwrap_or(0);
    if let Some(settings) = fields.get("set").and_then(|json| serde_json::from_str(json).ok()) {
        state.settings = Arc::new(settings);
    }
    state.read_at = now;
    for (field, value) in &fields {
        if let Some(peer) = parse_peer_field(field, "p:") {
            state.members.extend(read_member(&fields, &peer, value).map(|member| (peer, member)));
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
    let (owner, epoch, mailbox) = parse_owner(fields.get(&format!("o:{peer}"))?)?;
    let presence = match owner {
        Some(node) => PeerAttachment::Attached(node),
        None => PeerAttachment::Detached(number("d").unwrap_or(0)),
    };
    let generation = number("g").unwrap_or(1);
    Some(Member {
        attachment: presence,
        epoch,
        generation,
        mailbox_version: mailbox,
        ..serde_json::from_str(record).ok()?
    })
}

/// Reads `node epoch mailbox`; the node is `-` where nobody owns the peer.
fn parse_owner(value: &str) -> Option<(Option<NodeId>, u64, u64)> {
    let mut words = value.split(' ');
    let node = words.next().and_then(|node| NodeId::parse(node).ok());
    Some((node, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn parse_tombstone(value: &str) -> Option<Tombstone> {
    let mut words = value.split(' ');
    let (epoch, until) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Tombstone { epoch, expires_at: until, reason: LeaveReason::parse(words.next()?)? })
}

/// Reads what became of a peer.
pub(super) fn read_peer_status(reply: &mut ReplyReader, reader: &MailboxReader) -> Option<PeerStatus> {
    let lineage: ReplicationId = reply.next_text()?.into();
    let _exists = reply.next_number()?;
    let (record, tombstone) = (reply.next_text()?, reply.next_text()?);
    let found = parse_owner(&record);
    let judged = found.as_ref().map(|(node, epoch, _)| (node.as_ref(), *epoch));
    let page = || read_page(reply, &lineage).unwrap_or_default();
    let left = self::parse_tombstone(&tombstone).map(|tombstone| tombstone.reason);
    Some(PeerStatus::from_record(reader, judged, left, &lineage, page))
}

fn read_page(reply: &mut ReplyReader, lineage: &ReplicationId) -> Option<MailboxPage> {
    let (mailbox, head) = (reply.next_number()?, reply.next_number()?);
    let (acked, last_id) = (reply.next_number()?, reply.next_number()?);
    let entries = read_entries(reply.next_value()?);
    Some(MailboxPage {
        mailbox_version: mailbox,
        last_seq: head,
        acked_seq: acked,
        last_id,
        replication_id: lineage.clone(),
        entries,
    })
}

/// Reads where a mailbox goes on.
pub(super) fn read_renewed_mailbox(reply: &mut ReplyReader) -> Option<RenewedMailbox> {
    let (mailbox, seq, last_id) = (reply.next_number()?, reply.next_number()?, reply.next_number()?);
    Some(RenewedMailbox {
        mailbox_version: mailbox,
        base_seq: seq,
        last_id,
        state: read_loaded_room(reply)?.room?,
    })
}

/// Reads how far mailboxes have come.
pub(super) fn read_mailbox_heads(list: Value) -> Vec<MailboxHead> {
    let mut list = ReplyReader::new(list);
    std::iter::from_fn(|| {
        let mut head = ReplyReader::new(list.next_value()?);
        let (record, seq) = (head.next_text()?, head.next_number()?);
        let (node, epoch, mailbox) = parse_owner(&record).unwrap_or_default();
        Some(MailboxHead { owner: node.map(|node| (node, epoch)), mailbox_version: mailbox, last_seq: seq })
    })
    .collect()
}

/// Reads room names.
pub(super) fn read_room_ids(list: Value) -> Vec<RoomId> {
    read_texts(list).iter().filter_map(|name| RoomId::parse(name).ok()).collect()
}

/// Reads what has a deadline: `room`, or `room peer`, whose mailboxes are put together by room.
pub(super) fn read_due_items(lists: Vec<Value>) -> Vec<DueItem> {
    let mut mailboxes: BTreeMap<RoomId, Vec<PeerId>> = BTreeMap::new();
    let mut due = Vec::new();
    for name in lists.into_iter().flat_map(read_texts) {
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

/// Reads who is alive.
pub(super) fn read_census(reply: &mut ReplyReader) -> Option<NodeCensus> {
    let held = reply.next_number()? == 1;
    let mut nodes =
        || Some(read_texts(reply.next_value()?).iter().filter_map(|name| NodeId::parse(name).ok()).collect());
    Some(NodeCensus { had_lease: held, live_nodes: nodes()?, dead_nodes: nodes()? })
}

fn read_texts(list: Value) -> Vec<String> {
    let mut list = match list {
        Value::Set(items) => ReplyReader::new(Value::Array(items)),
        other => ReplyReader::new(other),
    };
    std::iter::from_fn(|| list.next_text()).collect()
}

fn read_pairs(hash: Value) -> BTreeMap<String, String> {
    match hash {
        Value::Map(pairs) => {
            pairs.into_iter().filter_map(|(k, v)| Some((value_to_text(k)?, value_to_text(v)?))).collect()
        }
        list => {
            let mut flat = ReplyReader::new(list);
            std::iter::from_fn(|| Some((flat.next_text()?, flat.next_text()?))).collect()
        }
    }
}

/// Reads the entries of a page.
fn read_entries(page: Value) -> Vec<Entry> {
    let mut page = ReplyReader::new(page);
    let mut entries = Vec::new();
    while let Some(item) = page.next_value() {
        let mut item = ReplyReader::new(item);
        let (Some(id), Some(fields)) = (item.next_text(), item.next_value()) else { continue };
        entries.extend(read_entry(&id, fields));
    }
    entries
}

fn read_entry(stream_id: &str, fields: Value) -> Option<Entry> {
    let seq = stream_id.split_once('-')?.1.parse().ok()?;
    let fields = read_pairs(fields);
    Some(Entry {
        seq,
        from: PeerId::parse(fields.get("f")?).ok()?,
        id: fields.get("i")?.parse().ok(),
        kind: decode_kind(fields.get("k")?),
        body: fields.get("d")?.as_str().into(),
    })
}

/// What came in on a topic.
pub(super) enum TopicMessage {
    /// Another node wrote entries for peers of this one.
    Deliveries(RoomId, Vec<Delivery>),
    /// Something happened to these peers.
    ResyncPeers(RoomId, Vec<PeerId>),
}

/// Reads `room from id kind peer:mailbox:seq,…`, a line break and the body; or `!room peer,…`.
pub(super) fn parse_topic_message(message: &str) -> Option<TopicMessage> {
    if let Some(notice) = message.strip_prefix('!') {
        let (room, peers) = notice.split_once(' ')?;
        let peers = peers.split(',').map(|peer| PeerId::parse(peer).ok()).collect::<Option<_>>()?;
        return Some(TopicMessage::ResyncPeers(RoomId::parse(room).ok()?, peers));
    }
    let (header, body) = message.split_once('\n')?;
    let mut words = header.split(' ');
    let room = RoomId::parse(words.next()?).ok()?;
    let from = PeerId::parse(words.next()?).ok()?;
    let id = words.next()?.parse().ok();
    let kind = decode_kind(words.next()?);
    let body: Arc<str> = body.into();
    let delivery = |target: &str| {
        let mut parts = target.split(':');
        let peer = PeerId::parse(parts.next()?).ok()?;
        let (mailbox, seq) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Delivery {
            peer,
            mailbox_version: mailbox,
            entry: Entry { seq, from: from.clone(), id, kind, body: body.clone() },
        })
    };
    let deliveries = words.next()?.split(',').map(delivery).collect::<Option<_>>()?;
    Some(TopicMessage::Deliveries(room, deliveries))
}

/// One message's result.
pub(super) fn read_append_result(
    value: Value,
    sender: &PeerId,
    item: &OutgoingEntry,
) -> Result<AppendResult, AppendError> {
    let mut reply = ReplyReader::new(value);
    match reply.next_text().as_deref() {
        Some("w") => {
            let kind = EntryKind::Forwarded;
            Ok(AppendResult::Written(read_deliveries(
                Some(reply.remaining_values()),
                sender,
                item.id,
                kind,
                &item.body,
            )))
        }
        Some("d") => Ok(AppendResult::Duplicate),
        Some("n") => Ok(AppendResult::NoSuchPeer),
        Some("b") => Ok(AppendResult::Backlogged),
        Some("s") => Ok(AppendResult::Stale),
        _ => Err(AppendError::Unavailable(StoreUnavailable)),
    }
}
