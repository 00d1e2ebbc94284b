//! What a node does by itself, whoever is connected: it renews its lease, looks after the rooms of
//! dead nodes, keeps deadlines, and compares its peers with the store after a break.
//!
//! Owns: the pace of it, and who does what: each partition is looked after by one node that is
//! alive (rendezvous hashing). Two at once are harmless, because each step is a compare-and-commit.
//! Must not: change a room but through its driver.
//!
//! After the store came back, or may have forgotten something, every lease and deadline may look
//! over. So for three leases nobody is taken for dead and no deadline counts.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use signalbox_config::TimingSettings;
use signalbox_protocol::id::{NodeId, RoomId};
use signalbox_redis::redis_keys::{PARTITIONS, fnv1a};
use tokio::time::sleep;

use crate::{node_context::STORE_RETRY_DELAY, registry::RoomRegistry};
use signalbox_rooms::{
    room::RoomInput,
    store::{DueItem, NodeCensus, StoreUnavailable},
};

/// So many rooms are compared or looked after at a time.
const MAX_CONCURRENT_ROOMS: usize = 32;

/// The keeper of one node.
struct NodeMaintenance {
    registry: Weak<RoomRegistry>,
    lease_duration: Duration,
    /// Who is alive, by the last answer. A std mutex: held to swap or clone the pointer.
    last_census: Mutex<Arc<NodeCensus>>,
    /// Whether the store may say things of this node that are not so.
    needs_reconcile: AtomicBool,
}

/// Starts the keeper of a node; it ends with the registry.
pub(crate) fn start_maintenance(registry: &Arc<RoomRegistry>, timing: &TimingSettings) {
    let alone = NodeCensus { live_nodes: vec![registry.context().node_id.clone()], ..NodeCensus::default() };
    let keeper = Arc::new(NodeMaintenance {
        registry: Arc::downgrade(registry),
        lease_duration: timing.lease.0,
        last_census: Mutex::new(Arc::new(alone)),
        needs_reconcile: AtomicBool::new(true),
    });
    let look = (timing.resume_window.0 / 8).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let runtime = &registry.context().runtime;
    runtime.spawn(keeper.clone().run_lease_renewal());
    runtime.spawn(keeper.clone().run_room_recovery());
    runtime.spawn(keeper.clone().run_deadlines(look));
    runtime.spawn(keeper.clone().run_partition_count());
    runtime.spawn(keeper.run_room_resync());
}

impl NodeMaintenance {
    fn current_census(&self) -> Arc<NodeCensus> {
        self.last_census.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether leases and deadlines count.
    fn is_grace_period_over(&self, registry: &RoomRegistry) -> bool {
        registry.context().store.stable_for() >= 3 * self.lease_duration
    }

    /// Renews the lease and does nothing else: whatever takes its time must not make the others
    /// take this node for dead.
    async fn run_lease_renewal(self: Arc<Self>) {
        let mut held_before = false;
        loop {
            let Some(registry) = self.registry.upgrade() else { return };
            match registry.context().store.renew_lease(&registry.context().node_id).await {
                Ok(census) => {
                    if held_before && !census.had_lease {
                        tracing::warn!(
                            event = "lease_lost",
                            "this node was taken for dead; it compares its peers"
                        );
                        registry.mark_rooms_stale(registry.local_rooms().iter().map(|room| room.id.clone()));
                    }
                    if !census.had_lease {
                        self.needs_reconcile.store(true, Ordering::Relaxed);
                    }
                    held_before = true;
                    *self.last_census.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(census);
                }
                Err(StoreUnavailable) => tracing::debug!(event = "lease_not_renewed"),
            }
            drop(registry);
            sleep(self.lease_duration / 4).await;
        }
    }

    /// Looks after the rooms of dead nodes, and after its own once after each break.
    async fn run_room_recovery(self: Arc<Self>) {
        loop {
            sleep(self.lease_duration / 4).await;
            let Some(registry) = self.registry.upgrade() else { return };
            if !self.is_grace_period_over(&registry) {
                self.needs_reconcile.store(true, Ordering::Relaxed);
                continue;
            }
            // What fails now is tried again.
            let _ = self.detach_dead_nodes(&registry, &self.current_census()).await;
            if self.needs_reconcile.swap(false, Ordering::Relaxed)
                && reconcile_own_rooms(&registry).await.is_err()
            {
                self.needs_reconcile.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Detaches the peers of dead nodes in the rooms of this node's partitions.
    async fn detach_dead_nodes(
        &self,
        registry: &Arc<RoomRegistry>,
        census: &NodeCensus,
    ) -> Result<(), StoreUnavailable> {
        let (hub, mine) =
            (registry.context(), assigned_partitions(&registry.context().node_id, &census.live_nodes));
        for dead in &census.dead_nodes {
            let mut rooms = Vec::new();
            for partition in &mine {
                rooms.extend(hub.store.list_rooms_of_node(*partition, dead).await?);
            }
            if !rooms.is_empty() {
                tracing::warn!(event = "node_dead", node = %dead, rooms = rooms.len());
            }
            let buried = stream::iter(rooms).for_each_concurrent(MAX_CONCURRENT_ROOMS, |room| async move {
                let done = registry.submit_input(&room, RoomInput::NodeDied { node: dead.clone() }).await;
                if done.is_ok() {
                    hub.metrics.rooms_reaped.inc();
                    // Should the index be older than the room; else it has gone with the commit.
                    let _ = hub.store.unlist_node(&room, dead).await;
                }
            });
            buried.await;
            if is_assigned_to(&hub.node_id, dead.as_str(), &census.live_nodes) {
                self.forget_dead_node(registry, dead).await?;
            }
        }
        Ok(())
    }

    /// A dead node is forgotten when nobody has rooms of it left to look after.
    async fn forget_dead_node(&self, registry: &RoomRegistry, dead: &NodeId) -> Result<(), StoreUnavailable> {
        let store = &registry.context().store;
        for partition in 0..PARTITIONS {
            if !store.list_rooms_of_node(partition, dead).await?.is_empty() {
                return Ok(());
            }
        }
        tracing::info!(event = "node_forgotten", node = %dead);
        store.forget_node(dead).await
    }

    async fn run_deadlines(self: Arc<Self>, look: Duration) {
        loop {
            sleep(look).await;
            let Some(registry) = self.registry.upgrade() else { return };
            if !self.is_grace_period_over(&registry) {
                continue;
            }
            let hub = registry.context();
            // What fails now is asked for again.
            let due = hub
                .store
                .poll_due_items(&assigned_partitions(&hub.node_id, &self.current_census().live_nodes))
                .await
                .unwrap_or_default();
            for due in due {
                match due {
                    DueItem::Room(room) => registry.queue_input(&room, RoomInput::CheckDeadlines),
                    // What fails now is named again.
                    DueItem::Mailboxes(room, peers) => _ = hub.store.trim_mailboxes(&room, &peers).await,
                }
            }
        }
    }

    async fn run_partition_count(self: Arc<Self>) {
        loop {
            sleep(Duration::from_secs(60 * 60)).await;
            let Some(registry) = self.registry.upgrade() else { return };
            // An hour is nothing to the two days that it is kept.
            let _ = registry.context().store.renew_partition_count().await;
        }
    }

    /// Compares rooms in which something may have been missed.
    async fn run_room_resync(self: Arc<Self>) {
        loop {
            let Some(registry) = self.registry.upgrade() else { return };
            // The registry outlives the process's last connection, so waiting on it keeps nothing
            // alive too long.
            let rooms = registry.wait_for_stale_rooms().await;
            let failed: Vec<RoomId> = stream::iter(rooms)
                .map(|name| {
                    let registry = &registry;
                    async move {
                        (registry.get_or_create_room(&name).compare_heads().await.is_err()).then_some(name)
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

/// Compares what the store says is on this node with its sockets. After a break there may be more:
/// a commit whose answer was lost, or a room that was made again from an old view. Such a room may
/// also name a node that nobody knows any more.
async fn reconcile_own_rooms(registry: &Arc<RoomRegistry>) -> Result<(), StoreUnavailable> {
    let hub = registry.context();
    let (rooms, me) = (list_rooms_of_node(registry, &hub.node_id).await?, &hub.node_id);
    let sweeping = stream::iter(rooms).map(|name| async move {
        let owners = registry.reconcile_room(&name).await?;
        hub.store.unlist_node(&name, me).await?;
        Ok::<_, StoreUnavailable>((name, owners))
    });
    let found: Vec<_> = sweeping.buffer_unordered(MAX_CONCURRENT_ROOMS).try_collect().await?;
    // Asked after the rooms were read, so that none of a node that has just started is among the
    // unknown.
    let census = hub.store.renew_lease(me).await?;
    let is_known = |node: &NodeId| census.live_nodes.contains(node) || census.dead_nodes.contains(node);
    let lost =
        found.into_iter().flat_map(|(name, owners)| owners.into_iter().map(move |o| (name.clone(), o)));
    let burying = stream::iter(lost.filter(|(_, owner)| !is_known(owner))).map(|(name, node)| async move {
        tracing::warn!(event = "node_unknown", %node, room = %name);
        registry.submit_input(&name, RoomInput::NodeDied { node: node.clone() }).await?;
        hub.store.unlist_node(&name, &node).await
    });
    burying.buffer_unordered(MAX_CONCURRENT_ROOMS).try_collect().await
}

/// The rooms where a node has, or had, peers.
async fn list_rooms_of_node(registry: &RoomRegistry, node: &NodeId) -> Result<Vec<RoomId>, StoreUnavailable> {
    let store = &registry.context().store;
    let asking = stream::iter(0..PARTITIONS).map(|partition| store.list_rooms_of_node(partition, node));
    let lists: Vec<Vec<RoomId>> = asking.buffer_unordered(MAX_CONCURRENT_ROOMS).try_collect().await?;
    Ok(lists.into_iter().flatten().collect())
}

/// The partitions that a node looks after.
fn assigned_partitions(node: &NodeId, alive: &[NodeId]) -> Vec<usize> {
    (0..PARTITIONS).filter(|partition| is_assigned_to(node, &partition.to_string(), alive)).collect()
}

/// Rendezvous hashing: of the nodes that are alive, the one with the highest score looks after
/// `what`.
fn is_assigned_to(node: &NodeId, what: &str, alive: &[NodeId]) -> bool {
    let score = |node: &NodeId| {
        let hash = fnv1a(node.as_str().bytes().chain([b' ']).chain(what.bytes()));
        // FNV's last bytes stir its high bits too little to be compared.
        (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let mine = score(node);
    alive.iter().all(|other| (score(other), other) <= (mine, node))
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
