//! The store shared through Redis.
//!
//! Owns: turning the contract of `store` into one script call each. Must not: retry (an unknown outcome belongs to the
//! caller, who has at most one call in flight per sender), or use a pooled connection (order per sender).
//! Next: `lua/` for what happens in Redis, `call` and `codec` for what goes there and comes back, `link` for the connection, `topics` for what other nodes wrote.

mod acked_writes;
mod codec;
mod node_topics;
mod partition_count;
mod script_call;
mod script_client;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crate::usage::{UsageAmount, UsageKey, UtcDay};
use futures_util::future::try_join_all;
use redis::{Script, Value};
use signalbox_config::RedisSettings as Settings;
use signalbox_protocol::id::{NodeId, PeerId, RoomId, UserId};
use signalbox_redis::redis_keys;

use super::{
    AppendBatch, AppendError, AppendResults, Commit, CommitResult, DueItem, LoadedRoom, MAX_PAGE_BYTES,
    MAX_PAGE_ENTRIES, MailboxHead, MailboxReader, NodeCensus, PeerStatus, RenewedMailbox, StoreEvents,
    StoreLimits, StoreUnavailable, store_limits::LiveLimits,
};
use crate::room::ReplicationId;
use acked_writes::AckedWrites;
use codec::ReplyReader;
use script_call::ScriptCall;
use script_client::{RoomScriptClient, RoomScriptId};

pub use script_client::RedisStartError;

/// Most rooms and mailboxes that are looked at in one go because their deadline has come.
const MAX_DUE_ITEMS: usize = 256;

/// How long until a room whose deadline has come is named again, milliseconds.
const DUE_RETRY_MS: u64 = 2_000;

/// Rooms and mailboxes in Redis.
pub struct RedisRoomStore {
    client: Arc<RoomScriptClient>,
    limits: LiveLimits,
    known: AckedWrites,
}

impl RedisRoomStore {
    /// Connects and checks the server: 7.0 or newer, `noeviction`.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong with the server or the URL, without the password.
    pub fn connect(url: &str, settings: &Settings, bounds: StoreLimits) -> Result<Self, RedisStartError> {
        Self::connect_with_scripts(url, settings, bounds, Vec::new())
    }

    /// As [`RedisRoomStore::open_with`], with scripts of others loaded on the same connections: [`RedisRoomStore::shared_client`].
    ///
    /// # Errors
    /// As [`RedisRoomStore::open_with`].
    pub fn connect_with_scripts(
        url: &str,
        settings: &Settings,
        bounds: StoreLimits,
        scripts: Vec<Script>,
    ) -> Result<Self, RedisStartError> {
        let (link, bounds) = (RoomScriptClient::connect(url, settings, scripts)?, LiveLimits::new(bounds));
        Ok(Self { client: link, limits: bounds, known: AckedWrites::default() })
    }

    /// The connections, and the place of the first script of others.
    pub fn shared_client(&self) -> (Arc<signalbox_redis::RedisClient>, usize) {
        (self.client.client().clone(), script_client::ROOM_SCRIPT_COUNT)
    }

    pub(super) fn set_backlog(&self, backlog: u64) {
        self.limits.set_backlog(backlog);
    }

    /// Checks that all nodes agree on the partitions, then subscribes to this node's topics; returns when a message of its own has come back.
    ///
    /// # Errors
    /// [`StartError`] if that does not happen in time.
    pub fn subscribe_topics(
        &self,
        node: &NodeId,
        arrivals: Weak<dyn StoreEvents>,
    ) -> Result<(), RedisStartError> {
        let link = self.client.clone();
        self.client
            .client()
            .run_blocking(async move { partition_count::check_partition_count(&link).await })?;
        node_topics::subscribe_node_topics(&self.client, node, arrivals)
    }

    #[cfg(test)]
    pub(super) async fn run_raw_command(&self, key: &str, cmd: &redis::Cmd) -> Value {
        self.client.run_key_command(key, cmd).await.unwrap()
    }

    pub(super) async fn renew_partition_count(&self) -> Result<(), StoreUnavailable> {
        partition_count::load_partition_count(&self.client).await.map(drop)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.client.now_ms()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.client.is_ready()
    }

    pub(super) fn is_room_available(&self, room: &RoomId) -> bool {
        self.client.is_partition_connected(redis_keys::partition_of_room(room))
    }

    pub(super) fn stable_for(&self) -> Duration {
        self.client.stable_for()
    }

    async fn run_script(
        &self,
        script: RoomScriptId,
        mut call: ScriptCall,
    ) -> Result<Value, StoreUnavailable> {
        let (lineage, age, stale) = self.known.last_write_ages(call.partition);
        call.add_arg(&*lineage).add_arg(age).add_arg(stale);
        self.client.run_script(call.partition, script, call.keys, call.args).await
    }

    /// A write was acknowledged, in the lineage that comes next in the reply.
    fn record_acked_write(
        &self,
        room: &RoomId,
        reply: &mut ReplyReader,
    ) -> Result<ReplicationId, StoreUnavailable> {
        let lineage: ReplicationId = reply.next_text().ok_or(StoreUnavailable)?.into();
        self.known.record_write(redis_keys::partition_of_room(room), &lineage);
        Ok(lineage)
    }

    pub(super) async fn load_room(&self, room: &RoomId) -> Result<LoadedRoom, StoreUnavailable> {
        let reply = self.run_script(RoomScriptId::LoadRoom, ScriptCall::new(room)).await?;
        codec::read_loaded_room(&mut ReplyReader::new(reply)).ok_or(StoreUnavailable)
    }

    pub(super) async fn commit(
        &self,
        room: &RoomId,
        node: &NodeId,
        commit: &Commit,
    ) -> Result<CommitResult, StoreUnavailable> {
        let script = if commit.adds_data { RoomScriptId::Commit } else { RoomScriptId::CommitWithoutGrowth };
        let call = ScriptCall::for_commit(room, node, commit, &self.limits.current());
        let mut reply = ReplyReader::new(self.run_script(script, call).await?);
        match reply.next_text().as_deref() {
            Some("ok") => {
                let lineage = self.record_acked_write(room, &mut reply)?;
                let handed = commit.events.iter().flat_map(|event| {
                    codec::read_deliveries(
                        reply.next_value(),
                        &event.about_peer,
                        None,
                        event.kind,
                        &event.body,
                    )
                });
                Ok(CommitResult::Applied(lineage, handed.collect()))
            }
            Some("conflict") => {
                codec::read_loaded_room(&mut reply).map(CommitResult::Conflict).ok_or(StoreUnavailable)
            }
            _ => Err(StoreUnavailable),
        }
    }

    pub(super) async fn append(
        &self,
        room: &RoomId,
        node: &NodeId,
        batch: &AppendBatch,
    ) -> Result<AppendResults, AppendError> {
        let bounds = &self.limits.current();
        let call = ScriptCall::for_append(room, node, batch, bounds);
        // What only acknowledges makes room, so that a full server takes it.
        let script = if batch.entries.is_empty() { RoomScriptId::Acknowledge } else { RoomScriptId::Append };
        let mut reply = ReplyReader::new(self.run_script(script, call).await?);
        match reply.next_text().as_deref() {
            Some("ok") => {
                self.record_acked_write(room, &mut reply)?;
                let mailbox = reply.next_number().ok_or(StoreUnavailable)?;
                let results = batch.entries.iter().map_while(|item| {
                    reply.next_value().map(|value| codec::read_append_result(value, &batch.sender, item))
                });
                Ok(AppendResults { mailbox_version: mailbox, results: results.collect::<Result<_, _>>()? })
            }
            Some("no") => Err(AppendError::NotOwner),
            _ => Err(StoreUnavailable.into()),
        }
    }

    pub(super) async fn read_mailbox(
        &self,
        room: &RoomId,
        reader: &MailboxReader,
        seq: u64,
    ) -> Result<PeerStatus, StoreUnavailable> {
        let mut call = ScriptCall::new(room);
        call.add_key(redis_keys::mailbox_key(room, &reader.peer));
        call.add_arg(reader.peer.as_str()).add_arg(seq).add_arg(MAX_PAGE_ENTRIES).add_arg(MAX_PAGE_BYTES);
        let reply = self.run_script(RoomScriptId::ReadMailbox, call).await?;
        codec::read_peer_status(&mut ReplyReader::new(reply), reader).ok_or(StoreUnavailable)
    }

    pub(super) async fn renew_mailbox(
        &self,
        room: &RoomId,
        reader: &MailboxReader,
        mailbox: u64,
        floor: u64,
    ) -> Result<Option<RenewedMailbox>, StoreUnavailable> {
        let mut call = ScriptCall::new(room);
        call.add_arg(reader.peer.as_str())
            .add_arg(reader.node.as_str())
            .add_arg(reader.epoch)
            .add_arg(mailbox)
            .add_arg(floor);
        match self.run_script(RoomScriptId::RenewMailbox, call).await? {
            Value::Nil => Ok(None),
            reply => {
                codec::read_renewed_mailbox(&mut ReplyReader::new(reply)).map(Some).ok_or(StoreUnavailable)
            }
        }
    }

    pub(super) async fn load_mailbox_heads(
        &self,
        room: &RoomId,
        peers: &[PeerId],
    ) -> Result<Vec<MailboxHead>, StoreUnavailable> {
        let mut call = ScriptCall::new(room);
        for peer in peers {
            call.add_arg(peer.as_str());
        }
        Ok(codec::read_mailbox_heads(self.run_script(RoomScriptId::MailboxHeads, call).await?))
    }

    pub(super) async fn invalidate_mailbox(
        &self,
        room: &RoomId,
        peer: &PeerId,
    ) -> Result<(), StoreUnavailable> {
        let mut call = ScriptCall::new(room);
        call.add_arg(peer.as_str()).add_arg(room.as_str()).add_arg(redis_keys::node_topic_prefix(room));
        self.run_script(RoomScriptId::InvalidateMailbox, call).await.map(drop)
    }

    pub(super) async fn poll_due_items(
        &self,
        partitions: &[usize],
    ) -> Result<Vec<DueItem>, StoreUnavailable> {
        // One call where a script may touch keys of several slots; in a Cluster one for each, at once.
        let at_once = if self.client.is_cluster() { 1 } else { partitions.len().max(1) };
        let calls = partitions.chunks(at_once).map(|partitions| async move {
            let args = vec![MAX_DUE_ITEMS.to_string().into_bytes(), DUE_RETRY_MS.to_string().into_bytes()];
            let keys = partitions.iter().map(|partition| redis_keys::due_key(*partition)).collect();
            self.client.run_script(partitions[0], RoomScriptId::DueItems, keys, args).await
        });
        Ok(codec::read_due_items(try_join_all(calls).await?))
    }

    pub(super) async fn trim_mailboxes(
        &self,
        room: &RoomId,
        peers: &[PeerId],
    ) -> Result<(), StoreUnavailable> {
        let mut call = ScriptCall::new(room);
        call.add_key(redis_keys::due_key(redis_keys::partition_of_room(room)));
        call.add_arg(room.as_str())
            .add_arg(self.limits.current().entry_life_ms)
            .add_arg(self.limits.current().expiry_slack_ms);
        for peer in peers {
            call.add_key(redis_keys::mailbox_key(room, peer));
            call.add_arg(peer.as_str());
        }
        self.run_script(RoomScriptId::TrimMailboxes, call).await.map(drop)
    }

    pub(super) async fn renew_lease(&self, node: &NodeId) -> Result<NodeCensus, StoreUnavailable> {
        let bounds = self.limits.current();
        let longest = bounds.room_life_ms + bounds.resume_window_ms;
        let args = [node.as_str().to_owned(), bounds.lease_ms.to_string(), longest.to_string()];
        let args = args.into_iter().map(String::into_bytes).collect();
        let keys = vec![redis_keys::NODES_KEY.to_owned()];
        let reply = self.client.run_key_script(RoomScriptId::RenewLease, keys, args).await?;
        codec::read_census(&mut ReplyReader::new(reply)).ok_or(StoreUnavailable)
    }

    pub(super) async fn list_rooms_of_node(
        &self,
        partition: usize,
        node: &NodeId,
    ) -> Result<Vec<RoomId>, StoreUnavailable> {
        let mut cmd = redis::cmd("SMEMBERS");
        cmd.arg(redis_keys::node_rooms_key(partition, node));
        Ok(codec::read_room_ids(self.client.run_command(partition, &cmd).await?))
    }

    pub(super) async fn list_rooms_in_partition(
        &self,
        partition: usize,
    ) -> Result<Vec<RoomId>, StoreUnavailable> {
        let mut cmd = redis::cmd("ZRANGEBYSCORE");
        cmd.arg(redis_keys::due_key(partition)).arg("-inf").arg("+inf");
        // Mailboxes with a deadline stand there too; their names are no rooms'.
        Ok(codec::read_room_ids(self.client.run_command(partition, &cmd).await?))
    }

    pub(super) async fn reserve_user_room(
        &self,
        user: &UserId,
        room: &RoomId,
        kept_ms: u64,
        most: u32,
    ) -> Result<bool, StoreUnavailable> {
        let args = [room.as_str().to_owned(), kept_ms.to_string(), most.to_string()];
        let args = args.into_iter().map(String::into_bytes).collect();
        let partition = redis_keys::partition_of_user(user);
        let reply = self
            .client
            .run_script(
                partition,
                RoomScriptId::ReserveUserRoom,
                vec![redis_keys::user_rooms_key(user)],
                args,
            )
            .await?;
        Ok(reply == Value::Int(1))
    }

    pub(super) async fn release_user_room(
        &self,
        user: &UserId,
        room: &RoomId,
    ) -> Result<(), StoreUnavailable> {
        let mut cmd = redis::cmd("ZREM");
        cmd.arg(redis_keys::user_rooms_key(user)).arg(room.as_str());
        self.client.run_command(redis_keys::partition_of_user(user), &cmd).await.map(drop)
    }

    pub(super) async fn unlist_node(&self, room: &RoomId, node: &NodeId) -> Result<(), StoreUnavailable> {
        let mut call = ScriptCall::new(room);
        call.add_key(redis_keys::node_rooms_key(redis_keys::partition_of_room(room), node));
        call.add_arg(room.as_str()).add_arg(node.as_str());
        self.run_script(RoomScriptId::UnlistNode, call).await.map(drop)
    }

    pub(super) async fn add_usage(
        &self,
        node: &NodeId,
        number: u64,
        day: UtcDay,
        amounts: &[(UsageKey, UsageAmount)],
    ) -> Result<(), StoreUnavailable> {
        let usage = self.limits.current().usage;
        let mut args = vec![node.as_str().to_owned(), number.to_string()];
        args.extend([usage.max_pairs.to_string(), usage.retention_ms.to_string()]);
        for ((caller, room), amount) in amounts {
            args.extend([caller.to_string(), room.to_string()]);
            args.extend([amount.joins.to_string(), amount.connected_ms.to_string()]);
        }
        let args = args.into_iter().map(String::into_bytes).collect();
        self.client
            .run_key_script(RoomScriptId::AddUsage, vec![redis_keys::usage_key(&day.to_string())], args)
            .await
            .map(drop)
    }

    pub(super) async fn forget_node(&self, node: &NodeId) -> Result<(), StoreUnavailable> {
        let mut cmd = redis::cmd("ZREM");
        cmd.arg(redis_keys::NODES_KEY).arg(node.as_str());
        self.client.run_key_command(redis_keys::NODES_KEY, &cmd).await.map(drop)
    }
}
