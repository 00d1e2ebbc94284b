//! What the tasks of one client share.
//!
//! Owns: the topology, the scripts to load, why Redis cannot be used, and the interruptions. Must
//! not: hold a connection; `redis_shard` does.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use redis::RedisError;
use tokio::sync::watch;

use crate::{
    interruption_clock::InterruptionClock,
    redis_address::RedisAddress,
    redis_error::RedisStartError,
    redis_namespace::RedisNamespace,
    redis_script::ScriptRegistry,
    redis_target::RedisTarget,
    redis_topology::RedisTopology,
    refusal_log::{Refusal, RefusalLog},
    shard_map::partition_slot,
};

/// Receives the partitions in which writes or messages may be missing.
pub(crate) type InterruptionListener = dyn Fn(&[usize]) + Send + Sync;

/// See the module.
pub(crate) struct ClientState {
    pub(crate) topology: RedisTopology,
    pub(crate) scripts: ScriptRegistry,
    pub(crate) refusals: Arc<RefusalLog>,
    /// Changes with each new connection, problem or map, so that a start can wait.
    changes: watch::Sender<()>,
    /// Whether every master was connected once.
    has_started: AtomicBool,
    // Std mutexes: held to read or replace a value.
    last_problem: Mutex<Option<RedisStartError>>,
    pub(crate) interruption_clock: InterruptionClock,
    pub(crate) interruption_listener: Mutex<Option<Arc<InterruptionListener>>>,
    /// Milliseconds by which the clock of the master of partition 0 is ahead of this machine's.
    pub(crate) clock_offset: AtomicI64,
}

impl ClientState {
    pub(crate) fn new(target: RedisTarget) -> Self {
        let refusals = Arc::<RefusalLog>::default();
        Self {
            topology: RedisTopology::new(target, refusals.clone()),
            scripts: ScriptRegistry::default(),
            refusals,
            changes: watch::Sender::default(),
            has_started: AtomicBool::new(false),
            last_problem: Mutex::default(),
            interruption_clock: InterruptionClock::start(),
            interruption_listener: Mutex::default(),
            clock_offset: AtomicI64::new(0),
        }
    }

    pub(crate) fn target(&self) -> &RedisTarget {
        self.topology.target()
    }

    pub(crate) fn names(&self) -> &RedisNamespace {
        &self.target().names
    }

    /// Explains an error of the driver to the operator, and records it if a server refuses requests.
    pub(crate) fn explain_error(&self, address: &RedisAddress, error: &RedisError) -> RedisStartError {
        if let Some(refusal) = Refusal::from_driver_error(error) {
            self.refusals.record(address, refusal);
        }
        RedisStartError::from_driver_error(address, error)
    }

    pub(crate) fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Relaxed)
    }

    pub(crate) fn set_started(&self) {
        self.has_started.store(true, Ordering::Relaxed);
    }

    pub(crate) fn watch_changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn announce_change(&self) {
        self.changes.send_replace(());
    }

    /// Why Redis could not be used the last time that a connection was tried.
    pub(crate) fn last_problem(&self) -> Option<RedisStartError> {
        self.last_problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a problem. Logs that Redis is missing at the start, and each problem that an operator
    /// must solve, once.
    pub(crate) fn report_problem(&self, error: RedisStartError) {
        let mut last = self.last_problem.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = last.as_ref().is_some_and(|last| last.to_string() == error.to_string());
        if last.is_none() && !self.has_started() || error.needs_operator() && !is_known {
            tracing::warn!(event = "redis_missing", %error, "trying to connect");
        }
        *last = Some(error);
        drop(last);
        self.announce_change();
    }

    pub(crate) fn set_clock_offset(&self, address: &RedisAddress, offset_ms: i64) {
        if self.topology.current_map().master_of_slot(partition_slot(0)) == Some(address) {
            self.clock_offset.store(offset_ms, Ordering::Relaxed);
        }
    }

    /// Redis may have lost writes and messages from before this moment.
    pub(crate) fn record_interruption(&self) {
        self.interruption_clock.record();
    }

    /// Records an interruption of some partitions and calls the listener.
    pub(crate) fn notify_interruption(&self, partitions: &[usize]) {
        self.record_interruption();
        let listener = self.interruption_listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(listener) = listener
            && !partitions.is_empty()
        {
            listener(partitions);
        }
    }

    /// The server is back, or it has another history of writes.
    pub(crate) fn notify_shard_interruption(&self, address: &RedisAddress) {
        self.notify_interruption(&self.topology.current_map().partitions_of(address));
    }
}
