//! What a node does by itself, whoever is connected: it renews its lease, looks after the rooms of dead nodes, keeps deadlines, and
//! compares its peers with the store after a break.
//!
//! Owns: the pace of it, and who does what: each partition is looked after by one node that is alive (rendezvous hashing). Two at
//! once are harmless, because each step is a compare-and-commit. Must not: change a room but through its driver.
//!
//! After the store came back, or may have forgotten something, every lease and deadline may look over. So for three leases nobody
//! is taken for dead and no deadline counts.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use signalbox_config::Timing;
use signalbox_protocol::id::{NodeId, RoomId};
use signalbox_redis::keys::{PARTITIONS, fnv1a};
use tokio::time::sleep;

use crate::registry::Registry;
use signalbox_rooms::{
    room::Input,
    store::{Census, Due, Unavailable},
};

/// So many rooms are compared or looked after at a time.
const AT_A_TIME: usize = 32;

/// Between two attempts while the store is away.
const AGAIN: Duration = Duration::from_millis(250);

/// The keeper of one node.
struct Keeper {
    registry: Weak<Registry>,
    lease: Duration,
    /// Who is alive, by the last answer. A std mutex: held to swap or clone the pointer.
    census: Mutex<Arc<Census>>,
    /// Whether the store may say things of this node that are not so.
    unswept: AtomicBool,
}

/// Starts the keeper of a node; it ends with the registry.
pub(crate) fn start(registry: &Arc<Registry>, timing: &Timing) {
    let alone = Census { alive: vec![registry.hub().node.clone()], ..Census::default() };
    let keeper = Arc::new(Keeper {
        registry: Arc::downgrade(registry),
        lease: timing.lease.0,
        census: Mutex::new(Arc::new(alone)),
        unswept: AtomicBool::new(true),
    });
    let look = (timing.resume_window.0 / 8).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let runtime = &registry.hub().runtime;
    runtime.spawn(keeper.clone().keep_lease());
    runtime.spawn(keeper.clone().keep_rooms());
    runtime.spawn(keeper.clone().keep_deadlines(look));
    runtime.spawn(keeper.clone().keep_partition_count());
    runtime.spawn(keeper.compare());
}

impl Keeper {
    fn census(&self) -> Arc<Census> {
        self.census.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether leases and deadlines count.
    fn is_undisturbed(&self, registry: &Registry) -> bool {
        registry.hub().store.undisturbed_for() >= 3 * self.lease
    }

    /// Renews the lease and does nothing else: whatever takes its time must not make the others take this node for dead.
    async fn keep_lease(self: Arc<Self>) {
        let mut held_before = false;
        loop {
            let Some(registry) = self.registry.upgrade() else { return };
            match registry.hub().store.renew_lease(&registry.hub().node).await {
                Ok(census) => {
                    if held_before && !census.held {
                        tracing::warn!(
                            event = "lease_lost",
                            "this node was taken for dead; it compares its peers"
                        );
                        registry.doubt(registry.rooms().iter().map(|room| room.id.clone()));
                    }
                    if !census.held {
                        self.unswept.store(true, Ordering::Relaxed);
                    }
                    held_before = true;
                    *self.census.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(census);
                }
                Err(Unavailable) => tracing::debug!(event = "lease_not_renewed"),
            }
            drop(registry);
            sleep(self.lease / 4).await;
        }
    }

    /// Looks after the rooms of dead nodes, and after its own once after each break.
    async fn keep_rooms(self: Arc<Self>) {
        loop {
            sleep(self.lease / 4).await;
            let Some(registry) = self.registry.upgrade() else { return };
            if !self.is_undisturbed(&registry) {
                self.unswept.store(true, Ordering::Relaxed);
                continue;
            }
            // What fails now is tried again.
            let _ = self.bury(&registry, &self.census()).await;
            if self.unswept.swap(false, Ordering::Relaxed) && sweep(&registry).await.is_err() {
                self.unswept.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Detaches the peers of dead nodes in the rooms of this node's partitions.
    async fn bury(&self, registry: &Arc<Registry>, census: &Census) -> Result<(), Unavailable> {
        let (hub, mine) = (registry.hub(), partitions_of(&registry.hub().node, &census.alive));
        for dead in &census.dead {
            let mut rooms = Vec::new();
            for partition in &mine {
                rooms.extend(hub.store.rooms_on(*partition, dead).await?);
            }
            if !rooms.is_empty() {
                tracing::warn!(event = "node_dead", node = %dead, rooms = rooms.len());
            }
            let buried = stream::iter(rooms).for_each_concurrent(AT_A_TIME, |room| async move {
                let done = registry.submit(&room, Input::Bury { node: dead.clone() }).await;
                if done.is_ok() {
                    hub.metrics.buried.inc();
                    // Should the index be older than the room; else it has gone with the commit.
                    let _ = hub.store.unlist(&room, dead).await;
                }
            });
            buried.await;
            if looks_after(&hub.node, dead.as_str(), &census.alive) {
                self.forget(registry, dead).await?;
            }
        }
        Ok(())
    }

    /// A dead node is forgotten when nobody has rooms of it left to look after.
    async fn forget(&self, registry: &Registry, dead: &NodeId) -> Result<(), Unavailable> {
        let store = &registry.hub().store;
        for partition in 0..PARTITIONS {
            if !store.rooms_on(partition, dead).await?.is_empty() {
                return Ok(());
            }
        }
        tracing::info!(event = "node_forgotten", node = %dead);
        store.forget_node(dead).await
    }

    async fn keep_deadlines(self: Arc<Self>, look: Duration) {
        loop {
            sleep(look).await;
            let Some(registry) = self.registry.upgrade() else { return };
            if !self.is_undisturbed(&registry) {
                continue;
            }
            let hub = registry.hub();
            // What fails now is asked for again.
            let due =
                hub.store.due(&partitions_of(&hub.node, &self.census().alive)).await.unwrap_or_default();
            for due in due {
                match due {
                    Due::Room(room) => registry.post(&room, Input::Tick),
                    // What fails now is named again.
                    Due::Mailboxes(room, peers) => _ = hub.store.trim(&room, &peers).await,
                }
            }
        }
    }

    async fn keep_partition_count(self: Arc<Self>) {
        loop {
            sleep(Duration::from_secs(60 * 60)).await;
            let Some(registry) = self.registry.upgrade() else { return };
            // An hour is nothing to the two days that it is kept.
            let _ = registry.hub().store.keep_partition_count().await;
        }
    }

    /// Compares rooms in which something may have been missed.
    async fn compare(self: Arc<Self>) {
        loop {
            let Some(registry) = self.registry.upgrade() else { return };
            // The registry outlives the process's last connection, so waiting on it keeps nothing alive too long.
            let rooms = registry.doubted().await;
            let failed: Vec<RoomId> = stream::iter(rooms)
                .map(|name| {
                    let registry = &registry;
                    async move { (registry.room(&name).compare().await.is_err()).then_some(name) }
                })
                .buffer_unordered(AT_A_TIME)
                .filter_map(std::future::ready)
                .collect()
                .await;
            if !failed.is_empty() {
                registry.doubt(failed);
                sleep(AGAIN).await;
            }
        }
    }
}

/// Compares what the store says is on this node with its sockets. After a break there may be more: a commit whose answer was lost,
/// or a room that was made again from an old view. Such a room may also name a node that nobody knows any more.
async fn sweep(registry: &Arc<Registry>) -> Result<(), Unavailable> {
    let hub = registry.hub();
    let (rooms, me) = (rooms_of(registry, &hub.node).await?, &hub.node);
    let sweeping = stream::iter(rooms).map(|name| async move {
        let owners = registry.sweep(&name).await?;
        hub.store.unlist(&name, me).await?;
        Ok((name, owners))
    });
    let found: Vec<_> = sweeping.buffer_unordered(AT_A_TIME).try_collect().await?;
    // Asked after the rooms were read, so that none of a node that has just started is among the unknown.
    let census = hub.store.renew_lease(me).await?;
    let is_known = |node: &NodeId| census.alive.contains(node) || census.dead.contains(node);
    let lost =
        found.into_iter().flat_map(|(name, owners)| owners.into_iter().map(move |o| (name.clone(), o)));
    let burying = stream::iter(lost.filter(|(_, owner)| !is_known(owner))).map(|(name, node)| async move {
        tracing::warn!(event = "node_unknown", %node, room = %name);
        registry.submit(&name, Input::Bury { node: node.clone() }).await?;
        hub.store.unlist(&name, &node).await
    });
    burying.buffer_unordered(AT_A_TIME).try_collect().await
}

/// The rooms where a node has, or had, peers.
async fn rooms_of(registry: &Registry, node: &NodeId) -> Result<Vec<RoomId>, Unavailable> {
    let store = &registry.hub().store;
    let asking = stream::iter(0..PARTITIONS).map(|partition| store.rooms_on(partition, node));
    let lists: Vec<Vec<RoomId>> = asking.buffer_unordered(AT_A_TIME).try_collect().await?;
    Ok(lists.into_iter().flatten().collect())
}

/// The partitions that a node looks after.
fn partitions_of(node: &NodeId, alive: &[NodeId]) -> Vec<usize> {
    (0..PARTITIONS).filter(|partition| looks_after(node, &partition.to_string(), alive)).collect()
}

/// Rendezvous hashing: of the nodes that are alive, the one with the highest score looks after `what`.
fn looks_after(node: &NodeId, what: &str, alive: &[NodeId]) -> bool {
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
    fn each_partition_is_looked_after_by_one_node_and_about_as_many_by_each() {
        let nodes: Vec<NodeId> = (1..=4).map(|n| NodeId::from_bits(n * 7919)).collect();
        let shares: Vec<usize> = nodes.iter().map(|node| partitions_of(node, &nodes).len()).collect();
        assert_eq!(shares.iter().sum::<usize>(), PARTITIONS);
        assert!(shares.iter().all(|share| (16..=56).contains(share)), "{shares:?}");
    }

    #[test]
    fn what_a_dead_node_looked_after_goes_to_others_and_nothing_else_moves() {
        let nodes: Vec<NodeId> = (1..=4).map(|n| NodeId::from_bits(n * 7919)).collect();
        for node in &nodes[..3] {
            let after = partitions_of(node, &nodes[..3]);
            assert!(partitions_of(node, &nodes).iter().all(|partition| after.contains(partition)));
        }
    }
}
