//! What a node does by itself, whoever is connected: it renews its lease, looks after the rooms of dead nodes, keeps deadlines, and
//! compares its peers with the store after a break.
//!
//! Owns: the pace of it, and who does what: each partition is looked after by one node that is alive (rendezvous hashing). Two at
//! once are harmless, because each step is a compare-and-commit. Must not: change a room but through its driver.
//!
//! After the store came back, or may have forgotten something, every lease and deadline may look over. So for three leases nobody
//! is taken for dead and no deadline counts.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use signalbox_shared::{
    config::Timing,
    id::{NodeId, RoomId},
    keys::PARTITIONS,
};
use tokio::time::sleep;

use crate::{
    registry::Registry,
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
    /// Who is alive, by the last answer. A std mutex: held to swap or clone the list.
    alive: Mutex<Arc<[NodeId]>>,
}

/// Starts the keeper of a node; it ends with the registry.
pub(crate) fn start(registry: &Arc<Registry>, timing: &Timing) {
    let alone: Arc<[NodeId]> = Arc::from([registry.hub().node.clone()]);
    let keeper = Arc::new(Keeper {
        registry: Arc::downgrade(registry),
        lease: timing.lease.0,
        alive: Mutex::new(alone),
    });
    let look = (timing.resume_window.0 / 8).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let runtime = &registry.hub().runtime;
    runtime.spawn(keeper.clone().keep_lease());
    runtime.spawn(keeper.clone().keep_deadlines(look));
    runtime.spawn(keeper.clone().keep_partition_count());
    runtime.spawn(keeper.compare());
}

impl Keeper {
    fn alive(&self) -> Arc<[NodeId]> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether leases and deadlines count.
    fn is_undisturbed(&self, registry: &Registry) -> bool {
        registry.hub().store.undisturbed_for() >= 3 * self.lease
    }

    async fn keep_lease(self: Arc<Self>) {
        let (mut held_before, mut swept) = (false, false);
        loop {
            let Some(registry) = self.registry.upgrade() else { return };
            match registry.hub().store.renew_lease(&registry.hub().node).await {
                Ok(census) => {
                    *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = census.alive.clone().into();
                    if held_before && !census.held {
                        tracing::warn!(
                            event = "lease_lost",
                            "this node was taken for dead; it compares its peers"
                        );
                        registry.doubt(registry.rooms().iter().map(|room| room.id.clone()));
                    }
                    swept &= census.held;
                    held_before = true;
                    if !self.is_undisturbed(&registry) {
                        swept = false;
                    } else {
                        // What fails now is tried with the next lease.
                        let _ = self.bury(&registry, &census).await;
                        swept = swept || sweep(&registry).await.is_ok();
                    }
                }
                Err(Unavailable) => tracing::debug!(event = "lease_not_renewed"),
            }
            drop(registry);
            sleep(self.lease / 4).await;
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
                let done = registry.room(&room).submit(Input::Bury { node: dead.clone() }, None).await;
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
            let due = hub.store.due(&partitions_of(&hub.node, &self.alive())).await.unwrap_or_default();
            for due in due {
                match due {
                    Due::Room(room) => registry.room(&room).post(Input::Tick),
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
/// or a room that was made again from an old view.
async fn sweep(registry: &Arc<Registry>) -> Result<(), Unavailable> {
    let hub = registry.hub();
    for partition in 0..PARTITIONS {
        for name in hub.store.rooms_on(partition, &hub.node).await? {
            let room = registry.room(&name);
            let live = room.connections().iter().map(|peer| peer.id.clone()).collect();
            room.submit(Input::Sweep { node: hub.node.clone(), live }, None).await?;
            hub.store.unlist(&name, &hub.node).await?;
        }
    }
    Ok(())
}

/// The partitions that a node looks after.
fn partitions_of(node: &NodeId, alive: &[NodeId]) -> Vec<usize> {
    (0..PARTITIONS).filter(|partition| looks_after(node, &partition.to_string(), alive)).collect()
}

/// Rendezvous hashing: of the nodes that are alive, the one with the highest score looks after `what`.
fn looks_after(node: &NodeId, what: &str, alive: &[NodeId]) -> bool {
    let score = |node: &NodeId| {
        let bytes = node.as_str().bytes().chain([b' ']).chain(what.bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
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
