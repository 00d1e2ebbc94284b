//! The keys and arguments of a script call, in the order that its legend gives.

use signalbox_protocol::id::{NodeId, PeerId, RoomId};
use signalbox_redis::redis_keys;

use super::codec;
use crate::store::{AppendBatch, Commit, MessageTarget, OutgoingEntry, StoreLimits};

/// Keys and arguments of a script, every key declared (a script that touches others breaks while slots move).
pub(super) struct ScriptCall {
    pub(super) partition: usize,
    pub(super) keys: Vec<String>,
    pub(super) args: Vec<Vec<u8>>,
}

impl ScriptCall {
    pub(super) fn new(room: &RoomId) -> Self {
        Self {
            partition: redis_keys::partition_of_room(room),
            keys: vec![redis_keys::room_key(room)],
            args: Vec::with_capacity(24),
        }
    }

    pub(super) fn add_arg(&mut self, value: impl redis::ToRedisArgs) -> &mut Self {
        self.args.extend(value.to_redis_args());
        self
    }

    /// Declares a key.
    pub(super) fn add_key(&mut self, key: String) {
        self.keys.push(key);
    }

    /// Declares a key and passes its index as Lua counts.
    pub(super) fn add_key_index(&mut self, key: String) -> &mut Self {
        self.add_key(key);
        self.add_arg(self.keys.len())
    }

    fn add_target(&mut self, room: &RoomId, peer: &PeerId) {
        self.add_arg(peer.as_str()).add_key_index(redis_keys::mailbox_key(room, peer));
    }

    /// A list: its length, then each.
    fn add_list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.add_arg(items.len());
        items.iter().for_each(|item| write(self, item));
    }

    fn add_entry(&mut self, room: &RoomId, batch: &AppendBatch, item: &OutgoingEntry) {
        match item.id {
            Some(id) => self.add_arg(id),
            None => self.add_arg(""),
        };
        let whenever = if item.requires_room_version { "v" } else { "p" };
        match &item.target {
            MessageTarget::Peer(peer) => {
                self.add_arg(whenever).add_arg(&*item.body).add_arg(1);
                self.add_target(room, peer);
            }
            MessageTarget::Withheld => {
                self.add_arg(whenever).add_arg("").add_arg(0);
            }
            MessageTarget::Room => {
                let others = || batch.members.peers.iter().filter(|peer| **peer != batch.sender);
                self.add_arg("r").add_arg(&*item.body).add_arg(others().count());
                others().for_each(|peer| self.add_target(room, peer));
            }
        }
    }

    /// As `append.lua` reads it.
    pub(super) fn for_append(
        room: &RoomId,
        node: &NodeId,
        batch: &AppendBatch,
        bounds: &StoreLimits,
    ) -> Self {
        let mut call = Self::new(room);
        call.add_key(redis_keys::due_key(redis_keys::partition_of_room(room)));
        call.add_key(redis_keys::mailbox_key(room, &batch.sender));
        call.add_arg(batch.sender.as_str()).add_arg(node.as_str()).add_arg(batch.epoch);
        call.add_arg(batch.mailbox_version).add_arg(batch.acked_seq).add_arg(batch.known_last_id);
        match batch.handle_generation {
            Some(handle) => call.add_arg(handle),
            None => call.add_arg(""),
        };
        call.add_arg(room.as_str()).add_arg(redis_keys::node_topic_prefix(room));
        call.add_arg(bounds.backlog)
            .add_arg(bounds.backlog_bytes)
            .add_arg(bounds.entry_life_ms)
            .add_arg(bounds.expiry_slack_ms);
        call.add_arg(batch.members.version)
            .add_arg(batch.entries.len())
            .add_arg(bounds.max_room_retention_ms());
        for item in &batch.entries {
            call.add_entry(room, batch, item);
        }
        call
    }

    /// As `commit.lua` reads it.
    pub(super) fn for_commit(room: &RoomId, node: &NodeId, commit: &Commit, bounds: &StoreLimits) -> Self {
        let mut call = Self::new(room);
        call.add_key(redis_keys::due_key(redis_keys::partition_of_room(room)));
        call.add_arg(&*commit.instance_id)
            .add_arg(commit.version)
            .add_arg(node.as_str())
            .add_arg(room.as_str());
        call.add_arg(redis_keys::node_topic_prefix(room)).add_arg(redis_keys::feed_topic(room));
        call.add_arg(2 * bounds.backlog)
            .add_arg(bounds.entry_life_ms)
            .add_arg(bounds.room_life_ms)
            .add_arg(bounds.resume_window_ms);
        call.add_arg(u8::from(commit.opens_room))
            .add_arg(bounds.expiry_slack_ms)
            .add_arg(u8::from(commit.ends_room));
        call.add_arg(commit.settings.as_ref().map_or_else(String::new, |settings| settings.to_json()));
        call.add_arg(commit.max_life_ms)
            .add_arg(commit.kept_until)
            .add_arg(bounds.max_room_retention_ms())
            .add_arg(u8::from(commit.leaves_room_empty));
        call.add_list(&commit.written_members, |call, (peer, member)| {
            let record = serde_json::to_string(member).unwrap_or_default();
            call.add_arg(peer.as_str()).add_arg(record).add_arg(member.owner().map_or("-", NodeId::as_str));
            call.add_arg(member.epoch)
                .add_arg(member.mailbox_version)
                .add_arg(member.generation)
                .add_arg(u8::from(member.waiting));
        });
        call.add_list(&commit.removed_peers, |call, (peer, tombstone)| {
            call.add_arg(peer.as_str()).add_arg(tombstone.epoch).add_arg(tombstone.reason.as_str());
            call.add_key_index(redis_keys::mailbox_key(room, peer));
        });
        call.add_list(&commit.expired_tombstones, |call, peer| _ = call.add_arg(peer.as_str()));
        call.add_list(&commit.detached_peers, |call, peer| _ = call.add_arg(peer.as_str()));
        call.add_list(&commit.added_nodes, |call, node| {
            _ = call.add_key_index(redis_keys::node_rooms_key(redis_keys::partition_of_room(room), node))
        });
        call.add_list(&commit.removed_nodes, |call, node| {
            _ = call.add_key_index(redis_keys::node_rooms_key(redis_keys::partition_of_room(room), node))
        });
        call.add_list(&commit.accepted_ids, |call, (peer, id)| _ = call.add_arg(peer.as_str()).add_arg(*id));
        call.add_list(&commit.events, |call, event| {
            call.add_arg(event.about_peer.as_str())
                .add_arg(codec::encode_kind(event.kind))
                .add_arg(&*event.body);
            call.add_list(&event.targets, |call, peer| call.add_target(room, peer));
        });
        call.add_list(&commit.resync_requests, |call, (node, peers)| {
            let peers: Vec<&str> = peers.iter().map(PeerId::as_str).collect();
            call.add_arg(node.as_str()).add_arg(peers.join(","));
        });
        let hooks = bounds.webhooks.filter(|_| !commit.feed_lines.is_empty());
        call.add_list(hooks.as_slice(), |call, hooks| {
            let p = redis_keys::partition_of_room(room);
            call.add_key_index(redis_keys::webhook_queue_key(p))
                .add_key_index(redis_keys::webhook_state_key(p))
                .add_arg(hooks.max_events)
                .add_arg(hooks.event_life_ms);
        });
        call.add_list(&commit.feed_lines, |call, line| _ = call.add_arg(&**line));
        call
    }
}
