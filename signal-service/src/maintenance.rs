//! The background tasks of a node: they renew its lease, detach the peers of dead nodes, check
//! deadlines, reconcile its peers with the store after an interruption, and close the connections
//! that hold most while too many bytes wait for all sockets.
//!
//! Owns: the pace of these tasks, and the assignment of partitions to nodes. Each partition belongs
//! to one live node (rendezvous hashing). Two nodes may act for the same partition: that is
//! harmless, because each step is a compare-and-commit. Must not: change a room except through its
//! driver. Next: `registry::local_room` commits the inputs.
//!
//! After the store was unavailable, or may have lost data, every lease and deadline may seem to
//! have expired. So no lease and no deadline is enforced for a grace period of three lease
//! durations.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use signalbox_config::TimingSettings;
use signalbox_protocol::{
    CloseCode,
    id::{NodeId, RoomId},
};
use signalbox_redis::redis_keys::{PARTITIONS, fnv1a};
use tokio::time::{sleep, timeout};

use crate::{node_context::STORE_RETRY_DELAY, registry::RoomRegistry, socket_budget::SocketBudget};
use signalbox_rooms::{
    room::RoomInput,
    store::{DueItem, NodeCensus, StoreUnavailable},
};

/// The number of rooms that one task handles at the same time.
const MAX_CONCURRENT_ROOMS: usize = 32;

/// How often the node renews the key that holds the number of partitions. The key expires after two
/// days.
const PARTITION_COUNT_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Between two looks at the bytes that wait for all sockets, while there are too many. The tasks of
/// closed connections release their bytes in this time.
const SOCKET_BUDGET_PAUSE: Duration = Duration::from_millis(20);

/// How long the task of the budget waits before it checks that the node still exists.
const SOCKET_BUDGET_INTERVAL: Duration = Duration::from_secs(5);

/// The background tasks of one node.
struct NodeMaintenance {
    registry: Weak<RoomRegistry>,
    lease_duration: Duration,
    /// What the last renewal of the lease has shown. A std mutex: held to swap or clone the pointer.
    last_renewal: Mutex<Arc<LeaseRenewal>>,
    /// Whether the store may list peers on this node that it does not serve.
    needs_reconcile: AtomicBool,
}

/// What a renewal of the lease has shown.
struct LeaseRenewal {
    /// The live and dead nodes.
    census: NodeCensus,
    /// The partitions that are assigned to this node. To find them costs a hash for each partition
    /// and live node, so it is done only when the live nodes change.
    partitions: Arc<[usize]>,
}

/// Starts the background tasks of a node; they end with the registry.
pub(crate) fn start_maintenance(registry: &Arc<RoomRegistry>, timing: &TimingSettings) {
    let own_census =
        NodeCensus { live_nodes: vec![registry.context().node_id.clone()], ..NodeCensus::default() };
    let first_renewal = LeaseRenewal { census: own_census, partitions: (0..PARTITIONS).collect() };
    let maintenance = Arc::new(NodeMaintenance {
        registry: Arc::downgrade(registry),
        lease_duration: timing.lease.0,
        last_renewal: Mutex::new(Arc::new(first_renewal)),
        needs_reconcile: AtomicBool::new(true),
    });
    let shortest_window = timing.resume_window.0.min(timing.going_window.0);
    let poll_interval = (shortest_window / 8).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let runtime = &registry.context().runtime;
    runtime.spawn(maintenance.clone().run_lease_renewal());
    runtime.spawn(maintenance.clone().run_room_recovery());
    runtime.spawn(maintenance.clone().run_deadlines(poll_interval));
    runtime.spawn(maintenance.clone().run_partition_count());
    runtime.spawn(maintenance.clone().run_socket_budget(registry.context().socket_budget.clone()));
    runtime.spawn(maintenance.run_room_resync());
}

impl NodeMaintenance {
    fn last_renewal(&self) -> Arc<LeaseRenewal> {
        self.last_renewal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep_census(&self, own_node: &NodeId, census: NodeCensus) {
        let before = self.last_renewal();
        let partitions = if census.live_nodes == before.census.live_nodes {
            before.partitions.clone()
        } else {
            assigned_partitions(own_node, &census.live_nodes).into()
        };
        let renewal = Arc::new(LeaseRenewal { census, partitions });
        *self.last_renewal.lock().unwrap_or_else(PoisonError::into_inner) = renewal;
    }

    /// Whether leases and deadlines are enforced.
    fn is_grace_period_over(&self, registry: &RoomRegistry) -> bool {
        registry.context().store.stable_for() >= 3 * self.lease_duration
    }

    /// Renews the lease. This task does nothing else: slow work must not delay a renewal, or the
    /// other nodes would treat this node as dead.
    async fn run_lease_renewal(self: Arc<Self>) {
        let mut was_renewed = false;
        loop {
            let Some(registry) = self.registry.upgrade() else { return };
            if registry.context().is_lease_released() {
                return;
            }
            match registry.context().store.renew_lease(&registry.context().node_id).await {
                Ok(census) => {
                    if was_renewed && !census.had_lease {
                        tracing::warn!(
                            event = "lease_lost",
                            "the store has no lease of this node: it expired, or a failover lost it. Other nodes may have detached the peers of this node, which resyncs them"
                        );
                        registry.mark_rooms_stale(registry.local_rooms().iter().map(|room| room.id.clone()));
                    }
                    if !census.had_lease {
                        self.needs_reconcile.store(true, Ordering::Relaxed);
                    }
                    was_renewed = true;
                    self.keep_census(&registry.context().node_id, census);
                }
                Err(StoreUnavailable) => tracing::debug!(event = "lease_not_renewed"),
            }
            drop(registry);
            sleep(self.lease_duration / 4).await;
        }
    }

    /// Detaches the peers of dead nodes, and reconciles the rooms of this node once after each
    /// interruption.
    async fn run_room_recovery(self: Arc<Self>) {
        loop {
            sleep(self.lease_duration / 4).await;
            let Some(registry) = self.registry.upgrade() else { return };
            if registry.context().is_lease_released() {
                return;
            }
            if !self.is_grace_period_over(&registry) {
                self.needs_reconcile.store(true, Ordering::Relaxed);
                continue;
            }
            // The next round tries again.
            let _ = self.detach_dead_nodes(&registry, &self.last_renewal()).await;
            if self.needs_reconcile.swap(false, Ordering::Relaxed)
                && reconcile_own_rooms(&registry).await.is_err()
            {
                self.needs_reconcile.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Detaches the peers of dead nodes in the partitions that are assigned to this node.
    async fn detach_dead_nodes(
        &self,
        registry: &Arc<RoomRegistry>,
        renewal: &LeaseRenewal,
    ) -> Result<(), StoreUnavailable> {
        let (context, census) = (registry.context(), &renewal.census);
        for dead_node in &census.dead_nodes {
            let mut rooms = Vec::new();
            for partition in &*renewal.partitions {
                rooms.extend(context.store.list_rooms_of_node(*partition, dead_node).await?);
            }
            if !rooms.is_empty() {
                tracing::warn!(event = "node_dead", node = %dead_node, rooms = rooms.len());
            }
            let recovery = stream::iter(rooms).for_each_concurrent(MAX_CONCURRENT_ROOMS, |room| async move {
                let input = RoomInput::NodeDied { node: dead_node.clone() };
                if registry.submit_input(&room, input).await.is_ok() {
                    context.metrics.rooms_reaped.inc();
                    // The commit removes the index entry, unless the index is older than the room.
                    let _ = context.store.unlist_node(&room, dead_node).await;
                }
            });
            recovery.await;
            if is_assigned_to(&context.node_id, dead_node.as_str(), &census.live_nodes) {
                self.forget_dead_node(registry, dead_node).await?;
            }
        }
        Ok(())
    }

    /// Forgets a dead node as soon as no partition lists a room of it.
    async fn forget_dead_node(
        &self,
        registry: &RoomRegistry,
        dead_node: &NodeId,
    ) -> Result<(), StoreUnavailable> {
        let store = &registry.context().store;
        for partition in 0..PARTITIONS {
            if !store.list_rooms_of_node(partition, dead_node).await?.is_empty() {
                return Ok(());
            }
        }
        tracing::info!(event = "node_forgotten", node = %dead_node);
        store.forget_node(dead_node).await
    }

    /// Checks the deadlines of rooms and trims old mailboxes.
    async fn run_deadlines(self: Arc<Self>, poll_interval: Duration) {
        loop {
            sleep(poll_interval).await;
            let Some(registry) = self.registry.upgrade() else { return };
            if !self.is_grace_period_over(&registry) {
                continue;
            }
            let context = registry.context();
            // The next round polls again after a failure.
            let partitions = &self.last_renewal().partitions;
            let due_items = context.store.poll_due_items(partitions).await.unwrap_or_default();
            for item in due_items {
                match item {
                    DueItem::Room(room) => registry.queue_input(&room, RoomInput::CheckDeadlines),
                    // After a failure the store lists the mailboxes again.
                    DueItem::Mailboxes(room, peers) => _ = context.store.trim_mailboxes(&room, &peers).await,
                }
            }
        }
    }

    /// Closes the connections that hold most while too many bytes wait for all sockets.
    async fn run_socket_budget(self: Arc<Self>, budget: Arc<SocketBudget>) {
        loop {
            if budget.surplus_bytes(0) > 0 {
                // The closed connections release their bytes meanwhile.
                sleep(SOCKET_BUDGET_PAUSE).await;
            } else {
                let _ = timeout(SOCKET_BUDGET_INTERVAL, budget.wait_until_exceeded()).await;
            }
            let Some(registry) = self.registry.upgrade() else { return };
            close_largest_connections(&registry, &budget);
        }
    }

    async fn run_partition_count(self: Arc<Self>) {
        loop {
            sleep(PARTITION_COUNT_INTERVAL).await;
            let Some(registry) = self.registry.upgrade() else { return };
            // A failure does no harm: the key outlives many intervals.
            let _ = registry.context().store.renew_partition_count().await;
        }
    }

    /// Compares the mailbox heads of stale rooms with their local peers.
    async fn run_room_resync(self: Arc<Self>) {
        loop {
            let Some(registry) = self.registry.upgrade() else { return };
            // The registry lives until the process ends, so this wait may hold it.
            let rooms = registry.wait_for_stale_rooms().await;
            let failed: Vec<RoomId> = stream::iter(rooms)
                .map(|room| {
                    let registry = &registry;
                    async move {
                        (registry.get_or_create_room(&room).compare_heads().await.is_err()).then_some(room)
                    }
                })
                .buffer_unordered(MAX_CONCURRENT_ROOMS)
                .filter_map(std::future::ready)
                .collect()
                .await;
            if !failed.is_empty() {
                registry.mark_rooms_stale(failed);
                sleep(STORE_RETRY_DELAY).await;
            }
        }
    }
}

/// Closes the connections that hold most, until the rest is within the budget.
fn close_largest_connections(registry: &RoomRegistry, budget: &SocketBudget) {
    if budget.surplus_bytes(0) == 0 {
        return;
    }
    let rooms = registry.local_rooms();
    let connections = rooms.iter().flat_map(|room| room.local_connections());
    let (closing, open): (Vec<_>, Vec<_>) = connections
        .map(|peer| (peer.held_bytes(), peer))
        .map(|((bytes, is_closing), peer)| (bytes, is_closing, peer))
        .partition(|(_, is_closing, _)| *is_closing);
    let mut released_bytes: usize = closing.iter().map(|(bytes, ..)| bytes).sum();
    let mut by_size: Vec<_> = open.into_iter().map(|(bytes, _, peer)| (bytes, peer)).collect();
    by_size.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    let mut closed = 0;
    for (bytes, peer) in by_size {
        if budget.surplus_bytes(released_bytes) == 0 || bytes == 0 {
            break;
        }
        peer.request_close(CloseCode::SlowConsumer);
        released_bytes += bytes;
        closed += 1;
    }
    if closed > 0 {
        registry.context().metrics.budget_closes.inc_by(closed);
        tracing::warn!(
            event = "node_outbox_full",
            closed,
            "too many bytes wait for the sockets of this node; the connections that held most are closed"
        );
    }
}

/// Reconciles the rooms that the store lists for this node with its connections.
///
/// After an interruption the store may list too many peers: the answer of a commit was lost, or a
/// room was created again from an old view. Such a room may also name a node that the store does
/// not know; the peers of that node are detached, too.
async fn reconcile_own_rooms(registry: &Arc<RoomRegistry>) -> Result<(), StoreUnavailable> {
    let context = registry.context();
    let own_node = &context.node_id;
    let rooms = list_rooms_of_node(registry, own_node).await?;
    let reconciliation = stream::iter(rooms).map(|room| async move {
        let owners = registry.reconcile_room(&room).await?;
        context.store.unlist_node(&room, own_node).await?;
        Ok::<_, StoreUnavailable>((room, owners))
    });
    let reconciled: Vec<_> = reconciliation.buffer_unordered(MAX_CONCURRENT_ROOMS).try_collect().await?;
    // Read after the rooms, so that it contains a node that started meanwhile.
    let census = context.store.renew_lease(own_node).await?;
    let is_known = |node: &NodeId| census.live_nodes.contains(node) || census.dead_nodes.contains(node);
    let owners = reconciled
        .into_iter()
        .flat_map(|(room, owners)| owners.into_iter().map(move |owner| (room.clone(), owner)));
    let unknown_owners = owners.filter(|(_, owner)| !is_known(owner));
    let recovery = stream::iter(unknown_owners).map(|(room, node)| async move {
        tracing::warn!(event = "node_unknown", %node, %room);
        registry.submit_input(&room, RoomInput::NodeDied { node: node.clone() }).await?;
        context.store.unlist_node(&room, &node).await
    });
    recovery.buffer_unordered(MAX_CONCURRENT_ROOMS).try_collect().await
}

/// The rooms in which a node has, or had, peers.
async fn list_rooms_of_node(registry: &RoomRegistry, node: &NodeId) -> Result<Vec<RoomId>, StoreUnavailable> {
    let store = &registry.context().store;
    let calls = stream::iter(0..PARTITIONS).map(|partition| store.list_rooms_of_node(partition, node));
    let lists: Vec<Vec<RoomId>> = calls.buffer_unordered(MAX_CONCURRENT_ROOMS).try_collect().await?;
    Ok(lists.into_iter().flatten().collect())
}

/// The partitions that are assigned to a node.
fn assigned_partitions(node: &NodeId, live_nodes: &[NodeId]) -> Vec<usize> {
    (0..PARTITIONS).filter(|partition| is_assigned_to(node, &partition.to_string(), live_nodes)).collect()
}

/// Whether a task, named by `task_key`, is assigned to a node: the live node with the highest score
/// gets it (rendezvous hashing).
fn is_assigned_to(node: &NodeId, task_key: &str, live_nodes: &[NodeId]) -> bool {
    let score = |node: &NodeId| {
        let hash = fnv1a(node.as_str().bytes().chain([b' ']).chain(task_key.bytes()));
        // The last bytes of an FNV input change the high bits of the hash too little.
        (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let own_score = score(node);
    live_nodes.iter().all(|other| (score(other), other) <= (own_score, node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_is_assigned_to_one_node_in_similar_shares() {
        let nodes: Vec<NodeId> = (1..=4).map(|n| NodeId::from_bits(n * 7919)).collect();
        let shares: Vec<usize> = nodes.iter().map(|node| assigned_partitions(node, &nodes).len()).collect();
        assert_eq!(shares.iter().sum::<usize>(), PARTITIONS);
        assert!(shares.iter().all(|share| (16..=56).contains(share)), "{shares:?}");
    }

    #[test]
    fn only_the_partitions_of_a_dead_node_move() {
        let nodes: Vec<NodeId> = (1..=4).map(|n| NodeId::from_bits(n * 7919)).collect();
        for node in &nodes[..3] {
            let after = assigned_partitions(node, &nodes[..3]);
            assert!(assigned_partitions(node, &nodes).iter().all(|partition| after.contains(partition)));
        }
    }
}
