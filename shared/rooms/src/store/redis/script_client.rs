//! The scripts, and the connections they are called over.
//!
//! Owns: which scripts there are, and that [`StoreEvents`] hear of partitions whose server was away or has changed. The connections, their
//! deadlines and what happens to a call are `signalbox-redis`'.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use redis::{Cmd, Script, Value};
use signalbox_config::RedisSettings as Settings;

use super::{StoreEvents, StoreUnavailable};

pub use signalbox_redis::RedisStartError;

/// The scripts.
#[derive(Clone, Copy)]
pub(super) enum RoomScriptId {
    Append,
    /// An append without messages: allowed when Redis is full.
    Acknowledge,
    Commit,
    /// A commit that nobody new comes in by: allowed when Redis is full.
    CommitWithoutGrowth,
    LoadRoom,
    ReadMailbox,
    RenewMailbox,
    MailboxHeads,
    InvalidateMailbox,
    DueItems,
    TrimMailboxes,
    RenewLease,
    UnlistNode,
    ReserveUserRoom,
    AddUsage,
}

impl RoomScriptId {
    /// In the order of the enum: a script is called by its place.
    const ALL: [Self; 15] = [
        Self::Append,
        Self::Acknowledge,
        Self::Commit,
        Self::CommitWithoutGrowth,
        Self::LoadRoom,
        Self::ReadMailbox,
        Self::RenewMailbox,
        Self::MailboxHeads,
        Self::InvalidateMailbox,
        Self::DueItems,
        Self::TrimMailboxes,
        Self::RenewLease,
        Self::UnlistNode,
        Self::ReserveUserRoom,
        Self::AddUsage,
    ];

    /// What it shares with others, and its own text.
    fn load_script(self) -> Script {
        const COMMON_LUA: &str = include_str!("lua/common.lua");
        /// In the order of the enum: a script is called by its place.
        const ALLOW_OOM: &str = "#!lua flags=allow-oom\n";
        let (flags, shared, own) = match self {
            Self::Append => ("", COMMON_LUA, include_str!("lua/append.lua")),
            Self::Acknowledge => (ALLOW_OOM, COMMON_LUA, include_str!("lua/append.lua")),
            Self::Commit => ("", COMMON_LUA, include_str!("lua/commit.lua")),
            Self::CommitWithoutGrowth => (ALLOW_OOM, COMMON_LUA, include_str!("lua/commit.lua")),
            Self::LoadRoom => (ALLOW_OOM, COMMON_LUA, include_str!("lua/load_room.lua")),
            Self::ReadMailbox => (ALLOW_OOM, COMMON_LUA, include_str!("lua/read_mailbox.lua")),
            Self::RenewMailbox => (ALLOW_OOM, COMMON_LUA, include_str!("lua/renew_mailbox.lua")),
            Self::MailboxHeads => (ALLOW_OOM, COMMON_LUA, include_str!("lua/mailbox_heads.lua")),
            Self::InvalidateMailbox => (ALLOW_OOM, COMMON_LUA, include_str!("lua/invalidate_mailbox.lua")),
            Self::DueItems => (ALLOW_OOM, "", include_str!("lua/due_items.lua")),
            Self::TrimMailboxes => (ALLOW_OOM, COMMON_LUA, include_str!("lua/trim_mailboxes.lua")),
            Self::RenewLease => (ALLOW_OOM, "", include_str!("lua/renew_lease.lua")),
            Self::UnlistNode => (ALLOW_OOM, COMMON_LUA, include_str!("lua/unlist_node.lua")),
            Self::ReserveUserRoom => ("#!lua\n", "", include_str!("lua/reserve_user_room.lua")),
            Self::AddUsage => ("", "", include_str!("lua/add_usage.lua")),
        };
        Script::new(&format!("{flags}{shared}\n{own}"))
    }
}

/// How many scripts are ours.
pub(super) const ROOM_SCRIPT_COUNT: usize = RoomScriptId::ALL.len();

/// Calls, each to the master of its partition.
pub(super) struct RoomScriptClient {
    client: Arc<signalbox_redis::RedisClient>,
}

impl RoomScriptClient {
    /// The scripts of others come after ours.
    pub(super) fn connect(
        url: &str,
        settings: &Settings,
        others: Vec<Script>,
    ) -> Result<Arc<Self>, RedisStartError> {
        let scripts = RoomScriptId::ALL.map(RoomScriptId::load_script).into_iter().chain(others).collect();
        Ok(Arc::new(Self { client: signalbox_redis::RedisClient::connect(url, settings, scripts)? }))
    }

    /// From now on these are told of partitions whose server was away, has changed or has lost writes.
    pub(super) fn notify_on_interruption(&self, arrivals: Weak<dyn StoreEvents>) {
        self.client.on_interruption(move |partitions| {
            if let Some(arrivals) = arrivals.upgrade() {
                arrivals.resync_partitions(partitions);
            }
        });
    }

    pub(super) fn client(&self) -> &Arc<signalbox_redis::RedisClient> {
        &self.client
    }

    /// Whether keys of different slots must not meet in one script.
    pub(super) fn is_cluster(&self) -> bool {
        self.client.topology().current_map().is_cluster()
    }

    /// Whether every master is connected.
    pub(super) fn is_ready(&self) -> bool {
        self.client.is_ready()
    }

    /// Whether the master of a partition is connected; where it is not, calls fail at once.
    pub(super) fn is_partition_connected(&self, partition: usize) -> bool {
        self.client.is_partition_connected(partition)
    }

    /// The time since the last reconnect, failover or move of a partition; zero while a server is away.
    pub(super) fn stable_for(&self) -> Duration {
        self.client.stable_for()
    }

    /// Milliseconds since 1970 by the server's clock, as it was compared when the connection was opened.
    pub(super) fn now_ms(&self) -> u64 {
        self.client.now_ms()
    }

    /// One command on keys of a partition, one answer, within the deadline.
    pub(super) async fn run_command(&self, partition: usize, cmd: &Cmd) -> Result<Value, StoreUnavailable> {
        self.client.run_command(partition, cmd).await.map_err(|_| StoreUnavailable)
    }

    /// One command on a key that is in no partition.
    pub(super) async fn run_key_command(&self, key: &str, cmd: &Cmd) -> Result<Value, StoreUnavailable> {
        self.client.run_key_command(key, cmd).await.map_err(|_| StoreUnavailable)
    }

    /// One script call on keys of a partition, all of them declared.
    pub(super) async fn run_script(
        &self,
        partition: usize,
        id: RoomScriptId,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, StoreUnavailable> {
        self.client.run_script(partition, id as usize, &keys, &args).await.map_err(|_| StoreUnavailable)
    }

    /// One script call on keys that are in no partition; the first says where.
    pub(super) async fn run_key_script(
        &self,
        id: RoomScriptId,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, StoreUnavailable> {
        self.client.run_key_script(id as usize, &keys, &args).await.map_err(|_| StoreUnavailable)
    }
}
