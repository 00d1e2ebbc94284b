//! The keys and arguments of a script call, in the order that its legend gives.

use signalbox_protocol::id::{NodeId, PeerId, RoomId};
use signalbox_redis::keys;

use super::codec;
use crate::store::{Append, Bounds, Commit, Item, Target};

/// Keys and arguments of a script, every key declared (a script that touches others breaks while slots move).
pub(super) struct ScriptCall {
    pub(super) partition: usize,
    pub(super) keys: Vec<String>,
    pub(super) args: Vec<Vec<u8>>,
}

impl ScriptCall {
    pub(super) fn new(room: &RoomId) -> Self {
        Self { partition: keys::partition(room), keys: vec![keys::room(room)], args: Vec::with_capacity(24) }
    }

    pub(super) fn arg(&mut self, value: impl redis::ToRedisArgs) -> &mut Self {
        self.args.extend(value.to_redis_args());
        self
    }

    /// Declares a key.
    pub(super) fn key(&mut self, key: String) {
        self.keys.push(key);
    }

    /// Declares a key and passes its index as Lua counts.
    pub(super) fn index(&mut self, key: String) -> &mut Self {
        self.key(key);
        self.arg(self.keys.len())
    }

    fn target(&mut self, room: &RoomId, peer: &PeerId) {
        self.arg(peer.as_str()).index(keys::mailbox(room, peer));
    }

    /// A list: its length, then each.
    fn each<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.arg(items.len());
        items.iter().for_each(|item| write(self, item));
    }

    fn item(&mut self, room: &RoomId, batch: &Append, item: &Item) {
        match item.id {
            Some(id) => self.arg(id),
            None => self.arg(""),
        };
        let whenever = if item.judged { "v" } else { "p" };
        match &item.to {
            Target::Peer(peer) => {
                self.arg(whenever).arg(&*item.body).arg(1);
                self.target(room, peer);
            }
            Target::Nobody => {
                self.arg(whenever).arg("").arg(0);
            }
            Target::Room => {
                let others = || batch.members.peers.iter().filter(|peer| **peer != batch.sender);
                self.arg("r").arg(&*item.body).arg(others().count());
                others().for_each(|peer| self.target(room, peer));
            }
        }
    }

    /// As `append.lua` reads it.
    pub(super) fn append(room: &RoomId, node: &NodeId, batch: &Append, bounds: &Bounds) -> Self {
        let mut call = Self::new(room);
        call.key(keys::due(keys::partition(room)));
        call.key(keys::mailbox(room, &batch.sender));
        call.arg(batch.sender.as_str()).arg(node.as_str()).arg(batch.epoch);
        call.arg(batch.mailbox).arg(batch.acked).arg(batch.floor);
        match batch.handle {
            Some(handle) => call.arg(handle),
            None => call.arg(""),
        };
        call.arg(room.as_str()).arg(keys::node_topic_prefix(room));
        call.arg(bounds.backlog).arg(bounds.backlog_bytes).arg(bounds.entry_life_ms).arg(bounds.slack_ms);
        call.arg(batch.members.version).arg(batch.items.len()).arg(bounds.longest_ms());
        for item in &batch.items {
            call.item(room, batch, item);
        }
        call
    }

    /// As `commit.lua` reads it.
    pub(super) fn commit(room: &RoomId, node: &NodeId, commit: &Commit, bounds: &Bounds) -> Self {
        let mut call = Self::new(room);
        call.key(keys::due(keys::partition(room)));
        call.arg(&*commit.incarnation).arg(commit.version).arg(node.as_str()).arg(room.as_str());
        call.arg(keys::node_topic_prefix(room)).arg(keys::feed_topic(room));
        call.arg(2 * bounds.backlog).arg(bounds.entry_life_ms).arg(bounds.room_life_ms).arg(bounds.window_ms);
        call.arg(u8::from(commit.opens)).arg(bounds.slack_ms).arg(u8::from(commit.ends));
        call.arg(commit.settings.as_ref().map_or_else(String::new, |settings| settings.to_json()));
        call.arg(commit.life_ms).arg(commit.kept_until).arg(bounds.longest_ms()).arg(u8::from(commit.empty));
        call.each(&commit.put, |call, (peer, member)| {
            let record = serde_json::to_string(member).unwrap_or_default();
            call.arg(peer.as_str()).arg(record).arg(member.owner().map_or("-", NodeId::as_str));
            call.arg(member.epoch).arg(member.mailbox).arg(member.generation).arg(u8::from(member.waiting));
        });
        call.each(&commit.removed, |call, (peer, tombstone)| {
            call.arg(peer.as_str()).arg(tombstone.epoch).arg(tombstone.reason.as_str());
            call.index(keys::mailbox(room, peer));
        });
        call.each(&commit.forgotten, |call, peer| _ = call.arg(peer.as_str()));
        call.each(&commit.detached, |call, peer| _ = call.arg(peer.as_str()));
        call.each(&commit.listed, |call, node| _ = call.index(keys::rooms_on(keys::partition(room), node)));
        call.each(&commit.unlisted, |call, node| _ = call.index(keys::rooms_on(keys::partition(room), node)));
        call.each(&commit.accepted, |call, (peer, id)| _ = call.arg(peer.as_str()).arg(*id));
        call.each(&commit.events, |call, event| {
            call.arg(event.about.as_str()).arg(codec::kind_text(event.kind)).arg(&*event.body);
            call.each(&event.targets, |call, peer| call.target(room, peer));
        });
        call.each(&commit.notices, |call, (node, peers)| {
            let peers: Vec<&str> = peers.iter().map(PeerId::as_str).collect();
            call.arg(node.as_str()).arg(peers.join(","));
        });
        let hooks = bounds.hooks.filter(|_| !commit.feed.is_empty());
        call.each(hooks.as_slice(), |call, hooks| {
            let p = keys::partition(room);
            call.index(keys::hooks(p)).index(keys::hooks_state(p)).arg(hooks.most).arg(hooks.life_ms);
        });
        call.each(&commit.feed, |call, line| _ = call.arg(&**line));
        call
    }
}
