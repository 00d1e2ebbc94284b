//! The store that all nodes share through Redis.
//!
//! Owns: one script call for each operation of the contract in `store`. Must not: retry, because an
//! unknown outcome belongs to the caller, which has at most one call in flight for a sender; or use
//! a pooled connection, because the messages of a sender have an order. Next: `lua/` for what
//! happens in Redis; `append`, `commit`, `reads`, `timeline` and `upkeep` for the arguments and replies of the
//! scripts; `topics` for the messages of other nodes.

mod append;
mod commit;
mod partition_count;
mod reads;
mod timeline;
mod topics;
mod upkeep;

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::try_join_all;
use redis::Value;
use signalbox_config::LiveValue;
use signalbox_protocol::id::{NodeId, PeerId, RoomId};
use signalbox_redis::{
    KeyCommand, MemoryLevel, RedisClient, RedisCommand, RedisScript, RedisStartError, ReplyReader,
    ScriptCall,
    redis_keys::{self, PARTITIONS},
};
use tokio::time::Instant;

use super::{
    Delivery, DueItem, Entry, EntryContent, EntryKind, LoadedRoom, MailboxHead, MailboxReader, NodeCensus,
    PeerStatus, RefusedIds, RenewedMailbox, StoreEvents, StoreLimits, StoreUnavailable,
};
use crate::{
    room::{ReplicationId, RoomCreator, RoomSettings},
    timeline::{PairReport, PairTimeline},
    usage::{UsageAmount, UsageKey, UtcDay},
};

/// What the scripts on a room share.
const COMMON_LUA: &str = include_str!("lua/common.lua");

/// A script on a room that a full server executes, because it frees memory or only reads.
const fn room_script(lua: &'static str) -> RedisScript {
    RedisScript::new(lua).with_common(COMMON_LUA).with_flags("allow-oom")
}

/// All scripts of this store.
static SCRIPTS: [&RedisScript; 16] = [
    &append::APPEND,
    &append::ACKNOWLEDGE,
    &commit::COMMIT,
    &commit::COMMIT_WITHOUT_GROWTH,
    &reads::LOAD_ROOM,
    &reads::READ_MAILBOX,
    &reads::RENEW_MAILBOX,
    &reads::MAILBOX_HEADS,
    &upkeep::INVALIDATE_MAILBOX,
    &upkeep::TRIM_MAILBOXES,
    &upkeep::UNLIST_NODE,
    &upkeep::DUE_ITEMS,
    &upkeep::RENEW_LEASE,
    &upkeep::RESERVE_ROOM,
    &upkeep::ADD_USAGE,
    &timeline::APPEND_TIMELINE,
];

/// A call whose first key is the hash of a room.
fn room_call(room: &RoomId) -> ScriptCall {
    let mut call = ScriptCall::in_partition(redis_keys::partition_of_room(room));
    call.add_key(redis_keys::room_key(room));
    call
}

/// Adds the keys of the bodies that several mailboxes share.
fn add_body_keys(call: &mut ScriptCall, room: &RoomId) {
    call.add_key(redis_keys::bodies_key(room)).add_key(redis_keys::body_holders_key(room));
}

/// Adds a peer and the index of its mailbox.
fn add_target(call: &mut ScriptCall, room: &RoomId, peer: &PeerId) {
    call.add_arg(peer.as_str()).add_key_index(redis_keys::mailbox_key(room, peer));
}

/// Reads `peer, mailbox version, seq, …`: the entries that one body became.
fn read_deliveries(
    mut reply: ReplyReader,
    from: &PeerId,
    id: Option<u64>,
    kind: EntryKind,
    body: &Arc<str>,
) -> Vec<Delivery> {
    let content = Arc::new(EntryContent { from: from.clone(), id, kind, body: body.clone() });
    let mut deliveries = Vec::new();
    while let (Some(peer), Some(mailbox_version), Some(seq)) =
        (reply.next_text(), reply.next_number(), reply.next_number())
    {
        let Ok(peer) = PeerId::parse(&peer) else { continue };
        let entry = Entry { seq, content: content.clone() };
        deliveries.push(Delivery { peer, mailbox_version, entry });
    }
    deliveries
}

/// Rooms and mailboxes in Redis.
pub struct RedisRoomStore {
    client: Arc<RedisClient>,
    limits: LiveValue<StoreLimits>,
    acked_writes: AckedWrites,
}

impl RedisRoomStore {
    /// A store over the client of the process. Announces the scripts; does not wait for Redis.
    pub fn new(client: Arc<RedisClient>, limits: StoreLimits) -> Self {
        client.load_scripts(&SCRIPTS);
        Self { client, limits: LiveValue::new(limits), acked_writes: AckedWrites::default() }
    }

    pub(super) fn set_limits(&self, limits: StoreLimits) {
        self.limits.replace(limits);
    }

    fn limits(&self) -> StoreLimits {
        self.limits.read(|limits| *limits)
    }

    /// Checks that all nodes use the same number of partitions, then subscribes to the topics of
    /// this node. Blocks until each master has delivered a probe.
    ///
    /// # Errors
    /// [`RedisStartError`] if that does not happen in time.
    pub fn subscribe_topics(
        &self,
        node: &NodeId,
        store_events: Weak<dyn StoreEvents>,
    ) -> Result<(), RedisStartError> {
        let (client, node) = (self.client.clone(), node.clone());
        self.client.run_blocking(async move {
            partition_count::check_partition_count(&client).await?;
            topics::subscribe_node_topics(&client, &node, store_events).await
        })
    }

    pub(super) async fn renew_partition_count(&self) -> Result<(), StoreUnavailable> {
        partition_count::load_partition_count(&self.client).await.map(drop)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.client.now_ms()
    }

    pub(super) fn memory_level(&self) -> MemoryLevel {
        self.client.highest_memory_level()
    }

    pub(super) fn check_ready(&self) -> Result<(), RedisStartError> {
        self.client.check_ready()
    }

    pub(super) fn refusal_counts(&self) -> Vec<(&'static str, u64)> {
        self.client.refusal_counts()
    }

    pub(super) fn is_room_available(&self, room: &RoomId) -> bool {
        self.client.is_partition_connected(redis_keys::partition_of_room(room))
    }

    pub(super) fn stable_for(&self) -> Duration {
        self.client.stable_for()
    }

    /// Runs a script on a room. Its last five arguments are the beginning of the topics of nodes,
    /// which writes this node knows of, and the replication id of the server.
    async fn run_room_script(
        &self,
        script: &'static RedisScript,
        room: &RoomId,
        mut call: ScriptCall,
    ) -> Result<Value, StoreUnavailable> {
        let (replication_id, age_ms, older_age_ms) =
            self.acked_writes.last_write_ages(redis_keys::partition_of_room(room));
        call.add_topic(redis_keys::node_topic_prefix(room));
        call.add_arg(&*replication_id).add_arg(age_ms).add_arg(older_age_ms).add_replication_id();
        Ok(self.client.run_script(script, &call).await?)
    }

    /// Records an acknowledged write. The reply continues with the replication id of the server.
    fn record_acked_write(
        &self,
        room: &RoomId,
        reply: &mut ReplyReader,
    ) -> Result<ReplicationId, StoreUnavailable> {
        let replication_id: ReplicationId = reply.next_text().ok_or(StoreUnavailable)?.into();
        self.acked_writes.record_write(redis_keys::partition_of_room(room), &replication_id);
        Ok(replication_id)
    }

    pub(super) async fn load_room(&self, room: &RoomId) -> Result<LoadedRoom, StoreUnavailable> {
        let reply = self.run_room_script(&reads::LOAD_ROOM, room, room_call(room)).await?;
        commit::read_loaded_room(&mut ReplyReader::new(reply)).ok_or(StoreUnavailable)
    }

    pub(super) async fn load_room_settings(
        &self,
        room: &RoomId,
    ) -> Result<Option<RoomSettings>, StoreUnavailable> {
        let get = KeyCommand::new(RedisCommand::HGet, redis_keys::room_key(room)).arg("set");
        let reply = self.client.run_command(&get).await?;
        let json = ReplyReader::new(Value::Array(vec![reply])).next_text();
        Ok(json.and_then(|json| serde_json::from_str(&json).ok()))
    }

    pub(super) async fn read_mailbox(
        &self,
        room: &RoomId,
        reader: &MailboxReader,
        seq: u64,
    ) -> Result<PeerStatus, StoreUnavailable> {
        let call = reads::read_mailbox_call(room, reader, seq);
        let reply = self.run_room_script(&reads::READ_MAILBOX, room, call).await?;
        reads::read_peer_status(&mut ReplyReader::new(reply), reader).ok_or(StoreUnavailable)
    }

    pub(super) async fn renew_mailbox(
        &self,
        room: &RoomId,
        reader: &MailboxReader,
        mailbox_version: u64,
        known_last_id: u64,
        refused: &RefusedIds,
    ) -> Result<Option<RenewedMailbox>, StoreUnavailable> {
        let call = reads::renew_mailbox_call(room, reader, mailbox_version, known_last_id, refused);
        match self.run_room_script(&reads::RENEW_MAILBOX, room, call).await? {
            Value::Nil => Ok(None),
            reply => {
                reads::read_renewed_mailbox(&mut ReplyReader::new(reply)).map(Some).ok_or(StoreUnavailable)
            }
        }
    }

    pub(super) async fn load_mailbox_heads(
        &self,
        room: &RoomId,
        peers: &[PeerId],
    ) -> Result<Vec<MailboxHead>, StoreUnavailable> {
        let call = reads::mailbox_heads_call(room, peers);
        Ok(reads::read_mailbox_heads(self.run_room_script(&reads::MAILBOX_HEADS, room, call).await?))
    }

    pub(super) async fn invalidate_mailbox(
        &self,
        room: &RoomId,
        peer: &PeerId,
    ) -> Result<(), StoreUnavailable> {
        let call = upkeep::invalidate_mailbox_call(room, peer);
        self.run_room_script(&upkeep::INVALIDATE_MAILBOX, room, call).await.map(drop)
    }

    pub(super) async fn poll_due_items(
        &self,
        partitions: &[usize],
    ) -> Result<Vec<DueItem>, StoreUnavailable> {
        // In a Cluster a script may use keys of one slot only.
        let partitions_per_call = if self.client.is_cluster() { 1 } else { partitions.len().max(1) };
        let calls: Vec<_> =
            partitions.chunks(partitions_per_call).filter_map(upkeep::due_items_call).collect();
        let replies = calls.iter().map(|call| self.client.run_script(&upkeep::DUE_ITEMS, call));
        Ok(upkeep::read_due_items(try_join_all(replies).await?))
    }

    pub(super) async fn trim_mailboxes(
        &self,
        room: &RoomId,
        peers: &[PeerId],
        room_version: u64,
    ) -> Result<(), StoreUnavailable> {
        let call = upkeep::trim_mailboxes_call(room, peers, room_version, &self.limits());
        self.run_room_script(&upkeep::TRIM_MAILBOXES, room, call).await.map(drop)
    }

    pub(super) async fn renew_lease(&self, node: &NodeId) -> Result<NodeCensus, StoreUnavailable> {
        let call = upkeep::renew_lease_call(node, &self.limits());
        let reply = self.client.run_script(&upkeep::RENEW_LEASE, &call).await?;
        upkeep::read_census(&mut ReplyReader::new(reply)).ok_or(StoreUnavailable)
    }

    pub(super) async fn list_rooms_of_node(
        &self,
        partition: usize,
        node: &NodeId,
    ) -> Result<Vec<RoomId>, StoreUnavailable> {
        let list = KeyCommand::new(RedisCommand::SMembers, redis_keys::node_rooms_key(partition, node));
        Ok(upkeep::read_room_ids(self.client.run_command(&list).await?))
    }

    pub(super) async fn list_rooms_in_partition(
        &self,
        partition: usize,
    ) -> Result<Vec<RoomId>, StoreUnavailable> {
        let list = KeyCommand::new(RedisCommand::ZRangeByScore, redis_keys::due_key(partition));
        // The key also holds mailboxes with a deadline. Their names are not names of rooms.
        Ok(upkeep::read_room_ids(self.client.run_command(&list.arg("-inf").arg("+inf")).await?))
    }

    pub(super) async fn reserve_room(
        &self,
        creator: &RoomCreator,
        room: &RoomId,
        retention_ms: u64,
        max_rooms: u32,
    ) -> Result<bool, StoreUnavailable> {
        let call = upkeep::reserve_room_call(creator, room, retention_ms, max_rooms);
        Ok(self.client.run_script(&upkeep::RESERVE_ROOM, &call).await? == Value::Int(1))
    }

    pub(super) async fn release_room(
        &self,
        creator: &RoomCreator,
        room: &RoomId,
    ) -> Result<(), StoreUnavailable> {
        let key = redis_keys::created_rooms_key(&creator.unique_name());
        self.client.run_command(&KeyCommand::new(RedisCommand::ZRem, key).arg(room.as_str())).await?;
        Ok(())
    }

    pub(super) async fn unlist_node(&self, room: &RoomId, node: &NodeId) -> Result<(), StoreUnavailable> {
        let call = upkeep::unlist_node_call(room, node);
        self.run_room_script(&upkeep::UNLIST_NODE, room, call).await.map(drop)
    }

    pub(super) async fn add_usage(
        &self,
        node: &NodeId,
        batch_number: u64,
        day: UtcDay,
        amounts: &[(UsageKey, UsageAmount)],
    ) -> Result<(), StoreUnavailable> {
        let call = upkeep::add_usage_call(node, batch_number, day, amounts, &self.limits());
        self.client.run_script(&upkeep::ADD_USAGE, &call).await?;
        Ok(())
    }

    pub(super) async fn append_timeline(
        &self,
        room: &RoomId,
        reports: &[PairReport],
    ) -> Result<(), StoreUnavailable> {
        // Calls can do without a timeline.
        if self.memory_level() != MemoryLevel::Normal {
            return Err(StoreUnavailable);
        }
        let call = timeline::append_timeline_call(room, reports, &self.limits().timeline);
        self.client.run_script(&timeline::APPEND_TIMELINE, &call).await?;
        Ok(())
    }

    pub(super) async fn read_timeline(&self, room: &RoomId) -> Result<Vec<PairTimeline>, StoreUnavailable> {
        let read = KeyCommand::new(RedisCommand::HGetAll, redis_keys::timeline_key(room));
        let fields = commit::read_pairs(self.client.run_command(&read).await?);
        let oldest_at = self.now_ms().saturating_sub(self.limits().timeline.retention_ms);
        Ok(timeline::read_timeline(&fields, oldest_at))
    }

    pub(super) async fn forget_node(&self, node: &NodeId) -> Result<(), StoreUnavailable> {
        let remove = KeyCommand::new(RedisCommand::ZRem, redis_keys::NODES_KEY).arg(node.as_str());
        self.client.run_command(&remove).await?;
        Ok(())
    }
}

/// For each partition, the last writes that Redis has acknowledged to this node. A server with
/// another history of writes may lack them.
///
/// A promoted replica gives every mailbox a new version when the first node uses it. Another node
/// may learn of the change later, and until then it writes to the old master. Its clients received
/// acknowledgements of these writes, and no other node knows of them. So the scripts compare the
/// time of the last write with the time at which the room was healed.
struct AckedWrites(Vec<Mutex<PartitionWrites>>);

#[derive(Default)]
struct PartitionWrites {
    /// The replication id of the last write, and when it was acknowledged.
    last: Option<(ReplicationId, Instant)>,
    /// When the last write with another replication id was acknowledged.
    older: Option<Instant>,
}

impl Default for AckedWrites {
    fn default() -> Self {
        Self((0..PARTITIONS).map(|_| Mutex::default()).collect())
    }
}

impl AckedWrites {
    fn record_write(&self, partition: usize, replication_id: &ReplicationId) {
        let mut writes = self.0[partition].lock().unwrap_or_else(PoisonError::into_inner);
        match &mut writes.last {
            Some((known, at)) if known == replication_id => *at = Instant::now(),
            last => {
                let before = last.replace((replication_id.clone(), Instant::now()));
                writes.older = before.map(|(_, at)| at).or(writes.older);
            }
        }
    }

    /// The replication id of the last write and its age, and the age of the last write with another
    /// replication id. Ages are in milliseconds. The second age is -1 without such a write.
    fn last_write_ages(&self, partition: usize) -> (ReplicationId, i64, i64) {
        let writes = self.0[partition].lock().unwrap_or_else(PoisonError::into_inner);
        let age_ms = |at: &Instant| at.elapsed().as_millis() as i64;
        let (replication_id, last) =
            writes.last.as_ref().map_or_else(Default::default, |(id, at)| (id.clone(), age_ms(at)));
        (replication_id, last, writes.older.as_ref().map_or(-1, age_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_with_an_older_replication_id_are_remembered() {
        let writes = AckedWrites::default();
        assert_eq!(writes.last_write_ages(3), ("".into(), 0, -1));
        writes.record_write(3, &"one".into());
        tokio::time::advance(Duration::from_millis(40)).await;
        assert_eq!(writes.last_write_ages(3), ("one".into(), 40, -1));
        writes.record_write(3, &"two".into());
        tokio::time::advance(Duration::from_millis(5)).await;
        assert_eq!((writes.last_write_ages(3), writes.last_write_ages(4).2), (("two".into(), 5, 45), -1));
    }
}
