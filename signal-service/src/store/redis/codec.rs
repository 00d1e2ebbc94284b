//! Reading what scripts and topics say.

use std::{collections::BTreeMap, sync::Arc};

use redis::Value;
use signalbox_shared::id::{NodeId, PeerId, RoomId};

use crate::{
    room::{Member, RoomState},
    store::{Delivery, Entry, EntryKind},
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
        EntryKind::Plain => "f",
        EntryKind::PeerEntry => "p",
    }
}

fn kind(text: &str) -> EntryKind {
    if text == "p" { EntryKind::PeerEntry } else { EntryKind::Plain }
}

/// Reads `peer, epoch, seq, …` of one body.
pub(super) fn deliveries(
    value: Option<Value>,
    from: &PeerId,
    id: Option<u64>,
    kind: EntryKind,
    body: &Arc<str>,
) -> Vec<Delivery> {
    let mut flat = Reply::new(value.unwrap_or(Value::Nil));
    let mut deliveries = Vec::new();
    while let (Some(peer), Some(epoch), Some(seq)) = (flat.text(), flat.next(), flat.next()) {
        let (Ok(peer), Some(epoch), Some(seq)) = (PeerId::parse(&peer), number(epoch), number(seq)) else {
            continue;
        };
        let entry = Entry { seq, from: from.clone(), id, kind, body: body.clone() };
        deliveries.push(Delivery { peer, epoch, entry });
    }
    deliveries
}

/// Reads a room hash. None where there is none.
pub(super) fn room_state(hash: Value) -> Option<RoomState> {
    let mut fields = pairs(hash);
    let incarnation = fields.remove("inc")?;
    let version = fields.remove("ver")?.parse().ok()?;
    let mut members = BTreeMap::new();
    for (field, record) in &fields {
        let Some(peer) = field.strip_prefix("p:").and_then(|peer| PeerId::parse(peer).ok()) else { continue };
        let owner = fields.get(&format!("o:{peer}")).and_then(|owner| owner.split_once(' '));
        let (Some((node, epoch)), Ok(member)) = (owner, serde_json::from_str::<Member>(record)) else {
            continue;
        };
        let (Ok(owner), Ok(epoch)) = (NodeId::parse(node), epoch.parse()) else { continue };
        members.insert(peer, Member { owner, epoch, ..member });
    }
    Some(RoomState { incarnation: incarnation.into(), version, members })
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

/// Reads a page of a mailbox.
pub(super) fn entries(page: Value) -> Vec<Entry> {
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

/// Reads what another node wrote: `room from id kind peer:epoch:seq,…`, a line break, the body.
pub(super) fn topic_message(message: &str) -> Option<(RoomId, Vec<Delivery>)> {
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
        let (epoch, seq) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Delivery { peer, epoch, entry: Entry { seq, from: from.clone(), id, kind, body: body.clone() } })
    };
    let deliveries = words.next()?.split(',').map(delivery).collect::<Option<Vec<_>>>()?;
    Some((room, deliveries))
}
