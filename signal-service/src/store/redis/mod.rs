//! The store shared through Redis.
//!
//! Owns: turning the contract of `store` into one script call each. Must not: retry (an unknown outcome belongs to the
//! caller, who has at most one call in flight per sender), or use a pooled connection (order per sender).
//! Next: `lua/` for what happens in Redis, `link` for the connection, `topics` for what other nodes wrote.

mod codec;
mod link;
mod topics;

use std::sync::{Arc, Weak};

use redis::Value;
use signalbox_shared::{
    config::Redis as Settings,
    id::{NodeId, PeerId, RoomId},
    keys,
};

use super::{
    Append, AppendError, Appended, Arrivals, Bounds, Commit, Committed, Entry, Item, Target, Unavailable,
};
use crate::room::RoomState;
use codec::Reply;
use link::{Link, ScriptId};

pub use link::StartError;

/// Rooms and mailboxes in Redis.
pub struct RedisStore {
    link: Arc<Link>,
    bounds: Bounds,
}

impl RedisStore {
    /// Connects and checks the server: 7.0 or newer, `noeviction`.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong with the server or the URL, without the password.
    pub fn connect(url: &str, settings: &Settings, bounds: Bounds) -> Result<Self, StartError> {
        Ok(Self { link: Link::connect(url, settings)?, bounds })
    }

    /// Subscribes to this node's topics; returns when a message of its own has come back.
    ///
    /// # Errors
    /// [`StartError`] if that does not happen in time.
    pub fn listen(&self, node: &NodeId, arrivals: Weak<dyn Arrivals>) -> Result<(), StartError> {
        topics::start(&self.link, node, arrivals)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.link.now_ms()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.link.is_ready()
    }

    pub(super) async fn load(&self, room: &RoomId) -> Result<Option<RoomState>, Unavailable> {
        let call = ScriptCall::new(room);
        Ok(codec::room_state(
            self.link.script(keys::partition(room), ScriptId::Load, call.keys, call.args).await?,
        ))
    }

    pub(super) async fn commit(
        &self,
        room: &RoomId,
        node: &NodeId,
        commit: &Commit,
    ) -> Result<Committed, Unavailable> {
        let script = if commit.grows { ScriptId::Commit } else { ScriptId::Shrink };
        let mut call = ScriptCall::new(room);
        call.arg(&*commit.incarnation).arg(commit.version).arg(node.as_str()).arg(room.as_str());
        call.arg(keys::node_topic_prefix(room)).arg(keys::feed_topic(room));
        call.arg(2 * self.bounds.backlog).arg(self.bounds.entry_life_ms).arg(self.bounds.room_life_ms);
        call.arg(u8::from(commit.ends));
        call.arg(commit.put.len());
        for (peer, member) in &commit.put {
            let record = serde_json::to_string(member).unwrap_or_default();
            call.arg(peer.as_str()).arg(record).arg(format!("{} {}", member.owner, member.epoch));
        }
        call.arg(commit.removed.len());
        commit.removed.iter().for_each(|peer| call.target(room, peer));
        call.arg(commit.accepted.len());
        for (peer, id) in &commit.accepted {
            call.arg(peer.as_str()).arg(*id);
        }
        call.arg(commit.events.len());
        for event in &commit.events {
            call.arg(event.about.as_str())
                .arg(codec::kind_text(event.kind))
                .arg(&*event.body)
                .arg(event.targets.len());
            event.targets.iter().for_each(|peer| call.target(room, peer));
        }
        call.arg(commit.feed.len());
        for line in &commit.feed {
            call.arg(&**line);
        }
        let mut reply =
            Reply::new(self.link.script(keys::partition(room), script, call.keys, call.args).await?);
        match reply.text().as_deref() {
            Some("ok") => {
                let handed = commit.events.iter().flat_map(|event| {
                    codec::deliveries(reply.next(), &event.about, None, event.kind, &event.body)
                });
                Ok(Committed::Applied(handed.collect()))
            }
            Some("conflict") => Ok(Committed::Conflict(reply.next().and_then(codec::room_state))),
            _ => Err(Unavailable),
        }
    }

    pub(super) async fn append(
        &self,
        room: &RoomId,
        node: &NodeId,
        batch: &Append,
    ) -> Result<Vec<Appended>, AppendError> {
        let mut call = ScriptCall::new(room);
        call.key(room, &batch.sender);
        call.arg(batch.sender.as_str())
            .arg(node.as_str())
            .arg(batch.epoch)
            .arg(batch.acked)
            .arg(room.as_str());
        call.arg(keys::node_topic_prefix(room));
        call.arg(self.bounds.backlog).arg(self.bounds.backlog_bytes).arg(self.bounds.entry_life_ms);
        call.arg(batch.members.version).arg(batch.items.len());
        for item in &batch.items {
            call.item(room, batch, item);
        }
        let mut reply = Reply::new(
            self.link.script(keys::partition(room), ScriptId::Append, call.keys, call.args).await?,
        );
        match reply.text().as_deref() {
            Some("ok") => batch
                .items
                .iter()
                .map_while(|item| Some(appended(reply.next()?, &batch.sender, item)))
                .collect(),
            Some("gone") => Err(AppendError::Gone),
            Some("fenced") => Err(AppendError::Fenced),
            _ => Err(AppendError::Unavailable(Unavailable)),
        }
    }

    pub(super) async fn read(
        &self,
        room: &RoomId,
        peer: &PeerId,
        epoch: u64,
        seq: u64,
        count: usize,
    ) -> Result<Vec<Entry>, Unavailable> {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(keys::mailbox(room, peer))
            .arg(format!("{epoch}-{}", seq + 1))
            .arg(format!("{epoch}-{}", u64::MAX));
        cmd.arg("COUNT").arg(count);
        Ok(codec::entries(self.link.call(keys::partition(room), &cmd).await?))
    }
}

/// One message's result.
fn appended(value: Value, sender: &PeerId, item: &Item) -> Result<Appended, AppendError> {
    let mut reply = Reply::new(value);
    match reply.text().as_deref() {
        Some("w") => {
            let kind = super::EntryKind::Plain;
            Ok(Appended::Written(codec::deliveries(Some(reply.rest()), sender, item.id, kind, &item.body)))
        }
        Some("d") => Ok(Appended::Duplicate),
        Some("n") => Ok(Appended::NoSuchPeer),
        Some("b") => Ok(Appended::Backlogged),
        Some("s") => Ok(Appended::Stale),
        _ => Err(AppendError::Unavailable(Unavailable)),
    }
}

/// Keys and arguments of a script, every key declared (a script that touches others breaks while slots move).
struct ScriptCall {
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl ScriptCall {
    fn new(room: &RoomId) -> Self {
        Self { keys: vec![keys::room(room)], args: Vec::with_capacity(24) }
    }

    fn arg(&mut self, value: impl redis::ToRedisArgs) -> &mut Self {
        self.args.extend(value.to_redis_args());
        self
    }

    /// Declares a peer's mailbox; returns its index as Lua counts.
    fn key(&mut self, room: &RoomId, peer: &PeerId) -> usize {
        self.keys.push(keys::mailbox(room, peer));
        self.keys.len()
    }

    fn target(&mut self, room: &RoomId, peer: &PeerId) {
        let index = self.key(room, peer);
        self.arg(peer.as_str()).arg(index);
    }

    fn item(&mut self, room: &RoomId, batch: &Append, item: &Item) {
        match item.id {
            Some(id) => self.arg(id),
            None => self.arg(""),
        };
        match &item.to {
            Target::Peer(peer) => {
                self.arg("p").arg(&*item.body).arg(1);
                self.target(room, peer);
            }
            Target::Room => {
                let others = || batch.members.peers.iter().filter(|peer| **peer != batch.sender);
                self.arg("r").arg(&*item.body).arg(others().count());
                others().for_each(|peer| self.target(room, peer));
            }
        }
    }
}
