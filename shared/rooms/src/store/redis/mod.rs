//! The store shared through Redis.
//!
//! Owns: turning the contract of `store` into one script call each. Must not: retry (an unknown outcome belongs to the
//! caller, who has at most one call in flight per sender), or use a pooled connection (order per sender).
//! Next: `lua/` for what happens in Redis, `call` and `codec` for what goes there and comes back, `link` for the connection, `topics` for what other nodes wrote.

mod call;
mod codec;
mod known;
mod link;
mod partitions;
mod topics;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crate::usage::{Amount, Day, Pair};
use futures_util::future::try_join_all;
use redis::{Script, Value};
use signalbox_config::Redis as Settings;
use signalbox_protocol::id::{NodeId, PeerId, RoomId, UserId};
use signalbox_redis::keys;

use super::{
    Append, AppendError, Arrivals, Batched, Bounds, Census, Commit, Committed, Due, Found, Head, Look,
    PAGE_BYTES, PAGE_ENTRIES, Reader, Renewed, Unavailable, bounds::LiveBounds,
};
use crate::room::Lineage;
use call::ScriptCall;
use codec::Reply;
use known::KnownWrites;
use link::{Link, ScriptId};

pub use link::StartError;

/// Most rooms and mailboxes that are looked at in one go because their deadline has come.
const DUE_ROOMS: usize = 256;

/// How long until a room whose deadline has come is named again, milliseconds.
const DUE_AGAIN_MS: u64 = 2_000;

/// Rooms and mailboxes in Redis.
pub struct RedisStore {
    link: Arc<Link>,
    bounds: LiveBounds,
    known: KnownWrites,
}

impl RedisStore {
    /// Connects and checks the server: 7.0 or newer, `noeviction`.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong with the server or the URL, without the password.
    pub fn connect(url: &str, settings: &Settings, bounds: Bounds) -> Result<Self, StartError> {
        Self::connect_with(url, settings, bounds, Vec::new())
    }

    /// As [`RedisStore::connect`], with scripts of others loaded on the same connections: [`RedisStore::shared_link`].
    ///
    /// # Errors
    /// As [`RedisStore::connect`].
    pub fn connect_with(
        url: &str,
        settings: &Settings,
        bounds: Bounds,
        scripts: Vec<Script>,
    ) -> Result<Self, StartError> {
        let (link, bounds) = (Link::connect(url, settings, scripts)?, LiveBounds::new(bounds));
        Ok(Self { link, bounds, known: KnownWrites::default() })
    }

    /// The connections, and the place of the first script of others.
    pub fn shared_link(&self) -> (Arc<signalbox_redis::Link>, usize) {
        (self.link.connections().clone(), link::OWN_SCRIPTS)
    }

    pub(super) fn set_backlog(&self, backlog: u64) {
        self.bounds.set_backlog(backlog);
    }

    /// Checks that all nodes agree on the partitions, then subscribes to this node's topics; returns when a message of its own has come back.
    ///
    /// # Errors
    /// [`StartError`] if that does not happen in time.
    pub fn listen(&self, node: &NodeId, arrivals: Weak<dyn Arrivals>) -> Result<(), StartError> {
        let link = self.link.clone();
        self.link.connections().run_and_wait(async move { partitions::agree(&link).await })?;
        topics::start(&self.link, node, arrivals)
    }

    #[cfg(test)]
    pub(super) async fn raw(&self, key: &str, cmd: &redis::Cmd) -> Value {
        self.link.call_key(key, cmd).await.unwrap()
    }

    pub(super) async fn keep_partition_count(&self) -> Result<(), Unavailable> {
        partitions::count(&self.link).await.map(drop)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.link.now_ms()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.link.is_ready()
    }

    pub(super) fn is_open(&self, room: &RoomId) -> bool {
        self.link.is_open(keys::partition(room))
    }

    pub(super) fn undisturbed_for(&self) -> Duration {
        self.link.undisturbed_for()
    }

    async fn script(&self, script: ScriptId, mut call: ScriptCall) -> Result<Value, Unavailable> {
        let (lineage, age, stale) = self.known.at(call.partition);
        call.arg(&*lineage).arg(age).arg(stale);
        self.link.script(call.partition, script, call.keys, call.args).await
    }

    /// A write was acknowledged, in the lineage that comes next in the reply.
    fn written(&self, room: &RoomId, reply: &mut Reply) -> Result<Lineage, Unavailable> {
        let lineage: Lineage = reply.text().ok_or(Unavailable)?.into();
        self.known.note(keys::partition(room), &lineage);
        Ok(lineage)
    }

    pub(super) async fn load(&self, room: &RoomId) -> Result<Found, Unavailable> {
        let reply = self.script(ScriptId::Load, ScriptCall::new(room)).await?;
        codec::found(&mut Reply::new(reply)).ok_or(Unavailable)
    }

    pub(super) async fn commit(
        &self,
        room: &RoomId,
        node: &NodeId,
        commit: &Commit,
    ) -> Result<Committed, Unavailable> {
        let script = if commit.grows { ScriptId::Commit } else { ScriptId::Shrink };
        let call = ScriptCall::commit(room, node, commit, &self.bounds.get());
        let mut reply = Reply::new(self.script(script, call).await?);
        match reply.text().as_deref() {
            Some("ok") => {
                let lineage = self.written(room, &mut reply)?;
                let handed = commit.events.iter().flat_map(|event| {
                    codec::deliveries(reply.next(), &event.about, None, event.kind, &event.body)
                });
                Ok(Committed::Applied(lineage, handed.collect()))
            }
            Some("conflict") => codec::found(&mut reply).map(Committed::Conflict).ok_or(Unavailable),
            _ => Err(Unavailable),
        }
    }

    pub(super) async fn append(
        &self,
        room: &RoomId,
        node: &NodeId,
        batch: &Append,
    ) -> Result<Batched, AppendError> {
        let bounds = &self.bounds.get();
        let call = ScriptCall::append(room, node, batch, bounds);
        // What only acknowledges makes room, so that a full server takes it.
        let script = if batch.items.is_empty() { ScriptId::Acknowledge } else { ScriptId::Append };
        let mut reply = Reply::new(self.script(script, call).await?);
        match reply.text().as_deref() {
            Some("ok") => {
                self.written(room, &mut reply)?;
                let mailbox = reply.number().ok_or(Unavailable)?;
                let results = batch
                    .items
                    .iter()
                    .map_while(|item| reply.next().map(|value| codec::appended(value, &batch.sender, item)));
                Ok(Batched { mailbox, results: results.collect::<Result<_, _>>()? })
            }
            Some("no") => Err(AppendError::NotOwner),
            _ => Err(Unavailable.into()),
        }
    }

    pub(super) async fn read(&self, room: &RoomId, reader: &Reader, seq: u64) -> Result<Look, Unavailable> {
        let mut call = ScriptCall::new(room);
        call.key(keys::mailbox(room, &reader.peer));
        call.arg(reader.peer.as_str()).arg(seq).arg(PAGE_ENTRIES).arg(PAGE_BYTES);
        let reply = self.script(ScriptId::Read, call).await?;
        codec::look(&mut Reply::new(reply), reader).ok_or(Unavailable)
    }

    pub(super) async fn renew(
        &self,
        room: &RoomId,
        reader: &Reader,
        mailbox: u64,
        floor: u64,
    ) -> Result<Option<Renewed>, Unavailable> {
        let mut call = ScriptCall::new(room);
        call.arg(reader.peer.as_str()).arg(reader.node.as_str()).arg(reader.epoch).arg(mailbox).arg(floor);
        match self.script(ScriptId::Renew, call).await? {
            Value::Nil => Ok(None),
            reply => codec::renewed(&mut Reply::new(reply)).map(Some).ok_or(Unavailable),
        }
    }

    pub(super) async fn heads(&self, room: &RoomId, peers: &[PeerId]) -> Result<Vec<Head>, Unavailable> {
        let mut call = ScriptCall::new(room);
        for peer in peers {
            call.arg(peer.as_str());
        }
        Ok(codec::heads(self.script(ScriptId::Heads, call).await?))
    }

    pub(super) async fn shatter(&self, room: &RoomId, peer: &PeerId) -> Result<(), Unavailable> {
        let mut call = ScriptCall::new(room);
        call.arg(peer.as_str()).arg(room.as_str()).arg(keys::node_topic_prefix(room));
        self.script(ScriptId::Shatter, call).await.map(drop)
    }

    pub(super) async fn due(&self, partitions: &[usize]) -> Result<Vec<Due>, Unavailable> {
        // One call where a script may touch keys of several slots; in a Cluster one for each, at once.
        let at_once = if self.link.is_cluster() { 1 } else { partitions.len().max(1) };
        let calls = partitions.chunks(at_once).map(|partitions| async move {
            let args = vec![DUE_ROOMS.to_string().into_bytes(), DUE_AGAIN_MS.to_string().into_bytes()];
            let keys = partitions.iter().map(|partition| keys::due(*partition)).collect();
            self.link.script(partitions[0], ScriptId::Due, keys, args).await
        });
        Ok(codec::due(try_join_all(calls).await?))
    }

    pub(super) async fn trim(&self, room: &RoomId, peers: &[PeerId]) -> Result<(), Unavailable> {
        let mut call = ScriptCall::new(room);
        call.key(keys::due(keys::partition(room)));
        call.arg(room.as_str()).arg(self.bounds.get().entry_life_ms).arg(self.bounds.get().slack_ms);
        for peer in peers {
            call.key(keys::mailbox(room, peer));
            call.arg(peer.as_str());
        }
        self.script(ScriptId::Trim, call).await.map(drop)
    }

    pub(super) async fn renew_lease(&self, node: &NodeId) -> Result<Census, Unavailable> {
        let bounds = self.bounds.get();
        let longest = bounds.room_life_ms + bounds.window_ms;
        let args = [node.as_str().to_owned(), bounds.lease_ms.to_string(), longest.to_string()];
        let args = args.into_iter().map(String::into_bytes).collect();
        let keys = vec![keys::NODES.to_owned()];
        let reply = self.link.script_key(ScriptId::Lease, keys, args).await?;
        codec::census(&mut Reply::new(reply)).ok_or(Unavailable)
    }

    pub(super) async fn rooms_on(&self, partition: usize, node: &NodeId) -> Result<Vec<RoomId>, Unavailable> {
        let mut cmd = redis::cmd("SMEMBERS");
        cmd.arg(keys::rooms_on(partition, node));
        Ok(codec::rooms(self.link.call(partition, &cmd).await?))
    }

    pub(super) async fn rooms_in(&self, partition: usize) -> Result<Vec<RoomId>, Unavailable> {
        let mut cmd = redis::cmd("ZRANGEBYSCORE");
        cmd.arg(keys::due(partition)).arg("-inf").arg("+inf");
        // Mailboxes with a deadline stand there too; their names are no rooms'.
        Ok(codec::rooms(self.link.call(partition, &cmd).await?))
    }

    pub(super) async fn take_place(
        &self,
        user: &UserId,
        room: &RoomId,
        kept_ms: u64,
        most: u32,
    ) -> Result<bool, Unavailable> {
        let args = [room.as_str().to_owned(), kept_ms.to_string(), most.to_string()];
        let args = args.into_iter().map(String::into_bytes).collect();
        let partition = keys::partition_of_user(user);
        let reply = self.link.script(partition, ScriptId::Place, vec![keys::rooms_of(user)], args).await?;
        Ok(reply == Value::Int(1))
    }

    pub(super) async fn give_place_back(&self, user: &UserId, room: &RoomId) -> Result<(), Unavailable> {
        let mut cmd = redis::cmd("ZREM");
        cmd.arg(keys::rooms_of(user)).arg(room.as_str());
        self.link.call(keys::partition_of_user(user), &cmd).await.map(drop)
    }

    pub(super) async fn unlist(&self, room: &RoomId, node: &NodeId) -> Result<(), Unavailable> {
        let mut call = ScriptCall::new(room);
        call.key(keys::rooms_on(keys::partition(room), node));
        call.arg(room.as_str()).arg(node.as_str());
        self.script(ScriptId::Unlist, call).await.map(drop)
    }

    pub(super) async fn add_usage(
        &self,
        node: &NodeId,
        number: u64,
        day: Day,
        amounts: &[(Pair, Amount)],
    ) -> Result<(), Unavailable> {
        let usage = self.bounds.get().usage;
        let mut args = vec![node.as_str().to_owned(), number.to_string()];
        args.extend([usage.pairs.to_string(), usage.kept_ms.to_string()]);
        for ((caller, room), amount) in amounts {
            args.extend([caller.to_string(), room.to_string()]);
            args.extend([amount.joins.to_string(), amount.ms.to_string()]);
        }
        let args = args.into_iter().map(String::into_bytes).collect();
        self.link.script_key(ScriptId::Usage, vec![keys::usage(&day.to_string())], args).await.map(drop)
    }

    pub(super) async fn forget_node(&self, node: &NodeId) -> Result<(), Unavailable> {
        let mut cmd = redis::cmd("ZREM");
        cmd.arg(keys::NODES).arg(node.as_str());
        self.link.call_key(keys::NODES, &cmd).await.map(drop)
    }
}
