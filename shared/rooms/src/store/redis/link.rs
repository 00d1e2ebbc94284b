//! The scripts, and the connections they are called over.
//!
//! Owns: which scripts there are, and that [`Arrivals`] hear of partitions whose server was away or has changed. The connections, their
//! deadlines and what happens to a call are `signalbox-redis`'.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use redis::{Cmd, Script, Value};
use signalbox_config::Redis as Settings;

use super::{Arrivals, Unavailable};

pub use signalbox_redis::StartError;

/// The scripts.
#[derive(Clone, Copy)]
pub(super) enum ScriptId {
    Append,
    /// An append without messages: allowed when Redis is full.
    Acknowledge,
    Commit,
    /// A commit that nobody new comes in by: allowed when Redis is full.
    Shrink,
    Load,
    Read,
    Renew,
    Heads,
    Shatter,
    Due,
    Trim,
    Lease,
    Unlist,
    Place,
    Usage,
}

impl ScriptId {
    /// In the order of the enum: a script is called by its place.
    const ALL: [Self; 15] = [
        Self::Append,
        Self::Acknowledge,
        Self::Commit,
        Self::Shrink,
        Self::Load,
        Self::Read,
        Self::Renew,
        Self::Heads,
        Self::Shatter,
        Self::Due,
        Self::Trim,
        Self::Lease,
        Self::Unlist,
        Self::Place,
        Self::Usage,
    ];

    /// What it shares with others, and its own text.
    fn script(self) -> Script {
        const ROOM: &str = include_str!("lua/mailbox.lua");
        /// In the order of the enum: a script is called by its place.
        const ALLOW_OOM: &str = "#!lua flags=allow-oom\n";
        let (flags, shared, own) = match self {
            Self::Append => ("", ROOM, include_str!("lua/append.lua")),
            Self::Acknowledge => (ALLOW_OOM, ROOM, include_str!("lua/append.lua")),
            Self::Commit => ("", ROOM, include_str!("lua/commit.lua")),
            Self::Shrink => (ALLOW_OOM, ROOM, include_str!("lua/commit.lua")),
            Self::Load => (ALLOW_OOM, ROOM, include_str!("lua/load.lua")),
            Self::Read => (ALLOW_OOM, ROOM, include_str!("lua/read.lua")),
            Self::Renew => (ALLOW_OOM, ROOM, include_str!("lua/renew.lua")),
            Self::Heads => (ALLOW_OOM, ROOM, include_str!("lua/heads.lua")),
            Self::Shatter => (ALLOW_OOM, ROOM, include_str!("lua/shatter.lua")),
            Self::Due => (ALLOW_OOM, "", include_str!("lua/due.lua")),
            Self::Trim => (ALLOW_OOM, ROOM, include_str!("lua/trim.lua")),
            Self::Lease => (ALLOW_OOM, "", include_str!("lua/lease.lua")),
            Self::Unlist => (ALLOW_OOM, ROOM, include_str!("lua/unlist.lua")),
            Self::Place => ("#!lua\n", "", include_str!("lua/place.lua")),
            Self::Usage => ("", "", include_str!("lua/usage.lua")),
        };
        Script::new(&format!("{flags}{shared}\n{own}"))
    }
}

/// How many scripts are ours.
pub(super) const OWN_SCRIPTS: usize = ScriptId::ALL.len();

/// Calls, each to the master of its partition.
pub(super) struct Link {
    connections: Arc<signalbox_redis::Link>,
}

impl Link {
    /// The scripts of others come after ours.
    pub(super) fn connect(
        url: &str,
        settings: &Settings,
        others: Vec<Script>,
    ) -> Result<Arc<Self>, StartError> {
        let scripts = ScriptId::ALL.map(ScriptId::script).into_iter().chain(others).collect();
        Ok(Arc::new(Self { connections: signalbox_redis::Link::connect(url, settings, scripts)? }))
    }

    /// From now on these are told of partitions whose server was away, has changed or has lost writes.
    pub(super) fn tell(&self, arrivals: Weak<dyn Arrivals>) {
        self.connections.on_disturbance(move |partitions| {
            if let Some(arrivals) = arrivals.upgrade() {
                arrivals.catch_up(partitions);
            }
        });
    }

    pub(super) fn connections(&self) -> &Arc<signalbox_redis::Link> {
        &self.connections
    }

    /// Whether keys of different slots must not meet in one script.
    pub(super) fn is_cluster(&self) -> bool {
        self.connections.topology().map().is_cluster()
    }

    /// Whether every master is connected.
    pub(super) fn is_ready(&self) -> bool {
        self.connections.is_ready()
    }

    /// Whether the master of a partition is connected; where it is not, calls fail at once.
    pub(super) fn is_open(&self, partition: usize) -> bool {
        self.connections.is_open(partition)
    }

    /// The time since the last reconnect, failover or move of a partition; zero while a server is away.
    pub(super) fn undisturbed_for(&self) -> Duration {
        self.connections.undisturbed_for()
    }

    /// Milliseconds since 1970 by the server's clock, as it was compared when the connection was opened.
    pub(super) fn now_ms(&self) -> u64 {
        self.connections.now_ms()
    }

    /// One command on keys of a partition, one answer, within the deadline.
    pub(super) async fn call(&self, partition: usize, cmd: &Cmd) -> Result<Value, Unavailable> {
        self.connections.call(partition, cmd).await.map_err(|_| Unavailable)
    }

    /// One command on a key that is in no partition.
    pub(super) async fn call_key(&self, key: &str, cmd: &Cmd) -> Result<Value, Unavailable> {
        self.connections.call_key(key, cmd).await.map_err(|_| Unavailable)
    }

    /// One script call on keys of a partition, all of them declared.
    pub(super) async fn script(
        &self,
        partition: usize,
        id: ScriptId,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, Unavailable> {
        self.connections.script(partition, id as usize, &keys, &args).await.map_err(|_| Unavailable)
    }

    /// One script call on keys that are in no partition; the first says where.
    pub(super) async fn script_key(
        &self,
        id: ScriptId,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, Unavailable> {
        self.connections.script_key(id as usize, &keys, &args).await.map_err(|_| Unavailable)
    }
}
