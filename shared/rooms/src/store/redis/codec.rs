//! Reading what scripts and topics say.

use std::{collections::BTreeMap, sync::Arc};

use redis::Value;
use signalbox_protocol::{
    LeftReason,
    id::{NodeId, PeerId, RoomId},
};

use crate::{
    room::{Lineage, Member, Presence, RoomState, Tombstone},
    store::{
        AppendError, Appended, Census, Delivery, Due, Entry, EntryKind, Found, Head, Item, Look, Page,
        Reader, Renewed, Unavailable,
    },
};

/// A reply that is a list, read from its front.
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    pub(super) fn new(value: Value) -> Self {
        Self(match value {
            Value::Array(items) => items.into_iter(),
            _ => Vec::new().into_iter(),
        })
    }

    pub(super) fn next(&mut self) -> Option<Value> {
        self.0.next()
    }

    pub(super) fn text(&mut self) -> Option<String> {
        self.next().and_then(text)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        self.next().and_then(number)
    }

    pub(super) fn rest(self) -> Value {
        Value::Array(self.0.collect())
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

fn number(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        other => text(other)?.parse().ok(),
    }
}

pub(super) fn kind_text(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Forwarded => "f",
        EntryKind::Presence => "m",
        EntryKind::PeerEntry => "p",
        EntryKind::Standing => "s",
    }
}

fn kind(text: &str) -> EntryKind {
    match text {
        "p" => EntryKind::PeerEntry,
        "m" => EntryKind::Presence,
        "s" => EntryKind::Standing,
        _ => EntryKind::Forwarded,
    }
}

/// Reads `peer, mailbox, seq, …` of one body.
pub(super) fn deliveries(
    value: Option<Value>,
    from: &PeerId,
    id: Option<u64>,
    kind: EntryKind,
    body: &Arc<str>,
) -> Vec<Delivery> {
    let mut flat = Reply::new(value.unwrap_or(Value::Nil));
    let mut deliveries = Vec::new();
    while let (Some(peer), Some(mailbox), Some(seq)) = (flat.text(), flat.number(), flat.number()) {
        let Ok(peer) = PeerId::parse(&peer) else { continue };
        let entry = Entry { seq, from: from.clone(), id, kind, body: body.clone() };
        deliveries.push(Delivery { peer, mailbox, entry });
    }
    deliveries
}

/// Reads a room as scripts return it: lineage, now, the hash.
pub(super) fn found(reply: &mut Reply) -> Option<Found> {
    let lineage: Lineage = reply.text()?.into();
    let now = reply.number()?;
    let room = reply.next().and_then(|hash| room_state(hash, &lineage, now));
    Some(Found { lineage, now, room })
}

/// Reads a room hash. None where there is none.
fn room_state(hash: Value, lineage: &Lineage, now: u64) -> Option<RoomState> {
    let fields = pairs(hash);
    let mut state = RoomState::new(fields.get("inc")?.as_str().into(), lineage.clone());
    state.version = fields.get("ver")?.parse().ok()?;
    state.ends_at = fields.get("end").and_then(|end| end.parse().ok()).unwrap_or(0);
    state.began_at = fields.get("beg").and_then(|began| began.parse().ok()).unwrap_or(0);
    if let Some(settings) = fields.get("set").and_then(|json| serde_json::from_str(json).ok()) {
        state.settings = Arc::new(settings);
    }
    state.read_at = now;
    for (field, value) in &fields {
        if let Some(peer) = peer_of(field, "p:") {
            state.members.extend(member(&fields, &peer, value).map(|member| (peer, member)));
        } else if let Some(peer) = peer_of(field, "t:") {
            state.left.extend(tombstone(value).map(|tombstone| (peer, tombstone)));
        }
    }
    Some(state)
}

fn peer_of(field: &str, prefix: &str) -> Option<PeerId> {
    PeerId::parse(field.strip_prefix(prefix)?).ok()
}

fn member(fields: &BTreeMap<String, String>, peer: &PeerId, record: &str) -> Option<Member> {
    let number = |field: &str| fields.get(&format!("{field}:{peer}")).and_then(|text| text.parse().ok());
    let (owner, epoch, mailbox) = owner(fields.get(&format!("o:{peer}"))?)?;
    let presence = match owner {
        Some(node) => Presence::Attached(node),
        None => Presence::Detached(number("d").unwrap_or(0)),
    };
    let generation = number("g").unwrap_or(1);
    Some(Member { presence, epoch, generation, mailbox, ..serde_json::from_str(record).ok()? })
}

/// Reads `node epoch mailbox`; the node is `-` where nobody owns the peer.
fn owner(value: &str) -> Option<(Option<NodeId>, u64, u64)> {
    let mut words = value.split(' ');
    let node = words.next().and_then(|node| NodeId::parse(node).ok());
    Some((node, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn tombstone(value: &str) -> Option<Tombstone> {
    let mut words = value.split(' ');
    let (epoch, until) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Tombstone { epoch, until, reason: LeftReason::parse(words.next()?)? })
}

/// Reads what became of a peer.
pub(super) fn look(reply: &mut Reply, reader: &Reader) -> Option<Look> {
    let lineage: Lineage = reply.text()?.into();
    let _exists = reply.number()?;
    let (record, tombstone) = (reply.text()?, reply.text()?);
    let found = owner(&record);
    let judged = found.as_ref().map(|(node, epoch, _)| (node.as_ref(), *epoch));
    let page = || page(reply, &lineage).unwrap_or_default();
    let left = self::tombstone(&tombstone).map(|tombstone| tombstone.reason);
    Some(Look::judge(reader, judged, left, &lineage, page))
}

fn page(reply: &mut Reply, lineage: &Lineage) -> Option<Page> {
    let (mailbox, head) = (reply.number()?, reply.number()?);
    let (acked, last_id) = (reply.number()?, reply.number()?);
    let entries = entries(reply.next()?);
    Some(Page { mailbox, head, acked, last_id, lineage: lineage.clone(), entries })
}

/// Reads where a mailbox goes on.
pub(super) fn renewed(reply: &mut Reply) -> Option<Renewed> {
    let (mailbox, seq, last_id) = (reply.number()?, reply.number()?, reply.number()?);
    Some(Renewed { mailbox, seq, last_id, state: found(reply)?.room? })
}

/// Reads how far mailboxes have come.
pub(super) fn heads(list: Value) -> Vec<Head> {
    let mut list = Reply::new(list);
    std::iter::from_fn(|| {
        let mut head = Reply::new(list.next()?);
        let (record, seq) = (head.text()?, head.number()?);
        let (node, epoch, mailbox) = owner(&record).unwrap_or_default();
        Some(Head { owner: node.map(|node| (node, epoch)), mailbox, head: seq })
    })
    .collect()
}

/// Reads room names.
pub(super) fn rooms(list: Value) -> Vec<RoomId> {
    texts(list).iter().filter_map(|name| RoomId::parse(name).ok()).collect()
}

/// Reads what has a deadline: `room`, or `room peer`, whose mailboxes are put together by room.
pub(super) fn due(lists: Vec<Value>) -> Vec<Due> {
    let mut mailboxes: BTreeMap<RoomId, Vec<PeerId>> = BTreeMap::new();
    let mut due = Vec::new();
    for name in lists.into_iter().flat_map(texts) {
        let (room, peer) = name.split_once(' ').map_or((&*name, None), |(room, peer)| (room, Some(peer)));
        match (RoomId::parse(room), peer.map(PeerId::parse)) {
            (Ok(room), None) => due.push(Due::Room(room)),
            (Ok(room), Some(Ok(peer))) => mailboxes.entry(room).or_default().push(peer),
            _ => {}
        }
    }
    due.extend(mailboxes.into_iter().map(|(room, peers)| Due::Mailboxes(room, peers)));
    due
}

/// Reads who is alive.
pub(super) fn census(reply: &mut Reply) -> Option<Census> {
    let held = reply.number()? == 1;
    let mut nodes =
        || Some(texts(reply.next()?).iter().filter_map(|name| NodeId::parse(name).ok()).collect());
    Some(Census { held, alive: nodes()?, dead: nodes()? })
}

fn texts(list: Value) -> Vec<String> {
    let mut list = match list {
        Value::Set(items) => Reply::new(Value::Array(items)),
        other => Reply::new(other),
    };
    std::iter::from_fn(|| list.text()).collect()
}

fn pairs(hash: Value) -> BTreeMap<String, String> {
    match hash {
        Value::Map(pairs) => pairs.into_iter().filter_map(|(k, v)| Some((text(k)?, text(v)?))).collect(),
        list => {
            let mut flat = Reply::new(list);
            std::iter::from_fn(|| Some((flat.text()?, flat.text()?))).collect()
        }
    }
}

/// Reads the entries of a page.
fn entries(page: Value) -> Vec<Entry> {
    let mut page = Reply::new(page);
    let mut entries = Vec::new();
    while let Some(item) = page.next() {
        let mut item = Reply::new(item);
        let (Some(id), Some(fields)) = (item.text(), item.next()) else { continue };
        entries.extend(entry(&id, fields));
    }
    entries
}

fn entry(stream_id: &str, fields: Value) -> Option<Entry> {
    let seq = stream_id.split_once('-')?.1.parse().ok()?;
    let fields = pairs(fields);
    Some(Entry {
        seq,
        from: PeerId::parse(fields.get("f")?).ok()?,
        id: fields.get("i")?.parse().ok(),
        kind: kind(fields.get("k")?),
        body: fields.get("d")?.as_str().into(),
    })
}

/// What came in on a topic.
pub(super) enum News {
    /// Another node wrote entries for peers of this one.
    Entries(RoomId, Vec<Delivery>),
    /// Something happened to these peers.
    LookAfter(RoomId, Vec<PeerId>),
}

/// Reads `room from id kind peer:mailbox:seq,…`, a line break and the body; or `!room peer,…`.
pub(super) fn news(message: &str) -> Option<News> {
    if let Some(notice) = message.strip_prefix('!') {
        let (room, peers) = notice.split_once(' ')?;
        let peers = peers.split(',').map(|peer| PeerId::parse(peer).ok()).collect::<Option<_>>()?;
        return Some(News::LookAfter(RoomId::parse(room).ok()?, peers));
    }
    let (header, body) = message.split_once('\n')?;
    let mut words = header.split(' ');
    let room = RoomId::parse(words.next()?).ok()?;
    let from = PeerId::parse(words.next()?).ok()?;
    let id = words.next()?.parse().ok();
    let kind = kind(words.next()?);
    let body: Arc<str> = body.into();
    let delivery = |target: &str| {
        let mut parts = target.split(':');
        let peer = PeerId::parse(parts.next()?).ok()?;
        let (mailbox, seq) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Delivery {
            peer,
            mailbox,
            entry: Entry { seq, from: from.clone(), id, kind, body: body.clone() },
        })
    };
    let deliveries = words.next()?.split(',').map(delivery).collect::<Option<_>>()?;
    Some(News::Entries(room, deliveries))
}

/// One message's result.
pub(super) fn appended(value: Value, sender: &PeerId, item: &Item) -> Result<Appended, AppendError> {
    let mut reply = Reply::new(value);
    match reply.text().as_deref() {
        Some("w") => {
            let kind = EntryKind::Forwarded;
            Ok(Appended::Written(deliveries(Some(reply.rest()), sender, item.id, kind, &item.body)))
        }
        Some("d") => Ok(Appended::Duplicate),
        Some("n") => Ok(Appended::NoSuchPeer),
        Some("b") => Ok(Appended::Backlogged),
        Some("s") => Ok(Appended::Stale),
        _ => Err(AppendError::Unavailable(Unavailable)),
    }
}
