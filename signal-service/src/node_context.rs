//! The parts of a node that every room of it uses: its id, the store, limits, metrics.
//!
//! Owns: these values and the removal hook. Must not: know a room or a connection. Next:
//! `registry::local_room` holds it.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signalbox_config::ServiceSettings;
use signalbox_protocol::id::{NodeId, RoomId};
use signalbox_rooms::{
    removal::{RemovalHook, RemovedPeer},
    store::RoomStore,
};

use crate::{
    effective_limits::EffectiveLimits, node_metrics::NodeMetrics, payload_filter::RelayOnlyRoles,
    socket_budget::SocketBudget,
};

/// The pause between two attempts while the store is unavailable.
pub(crate) const STORE_RETRY_DELAY: Duration = Duration::from_millis(250);

/// The parts of a node that every room of it uses.
pub struct NodeContext {
    /// This node.
    pub node_id: NodeId,
    /// The store of the rooms.
    pub store: RoomStore,
    /// The limits that may change.
    pub limits: EffectiveLimits,
    /// The metrics of the node.
    pub metrics: NodeMetrics,
    /// The roles that must see relay candidates only, if there are any.
    pub relay_only_roles: Option<RelayOnlyRoles>,
    /// The bytes that wait for all sockets.
    pub socket_budget: Arc<SocketBudget>,
    /// The runtime of the room drivers.
    pub runtime: tokio::runtime::Handle,
    removal_hook: OnceLock<RemovalHook>,
    is_lease_released: AtomicBool,
}

impl NodeContext {
    /// A context whose room drivers run on the current runtime.
    pub fn new(
        node_id: NodeId,
        store: RoomStore,
        settings: &ServiceSettings,
        metrics: NodeMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            node_id,
            store,
            limits: EffectiveLimits::new(settings),
            metrics,
            relay_only_roles: RelayOnlyRoles::new(settings),
            socket_budget: SocketBudget::new(settings.limits.node_outbox.0),
            runtime: tokio::runtime::Handle::current(),
            removal_hook: OnceLock::new(),
            is_lease_released: AtomicBool::new(false),
        })
    }

    /// Sets the hook that is called after a commit for each peer that a moderator or the API
    /// removed. The first hook stays.
    pub fn set_removal_hook(&self, hook: RemovalHook) {
        // Only `SignalNode::start` sets it.
        let _ = self.removal_hook.set(hook);
    }

    /// Removes this node from the store, which it must not enter again.
    pub(crate) async fn release_lease(&self) {
        self.is_lease_released.store(true, Ordering::Relaxed);
        // If the store is unavailable, the lease expires.
        let _ = self.store.forget_node(&self.node_id).await;
    }

    /// Whether the node has left the store.
    pub(crate) fn is_lease_released(&self) -> bool {
        self.is_lease_released.load(Ordering::Relaxed)
    }

    /// Calls the removal hook for a peer that a commit has removed.
    pub(crate) fn notify_removed(&self, room: &RoomId, removed: RemovedPeer) {
        tracing::info!(event = "removed", room = %room, peer = %removed.peer, user = %removed.user);
        if let Some(hook) = self.removal_hook.get() {
            hook(room, removed);
        }
    }
}
