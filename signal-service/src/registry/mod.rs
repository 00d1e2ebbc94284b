//! Which rooms and peers this node serves.
//!
//! Owns: room → local peers, the room driver (one commit in flight per room), delivery to local sockets.
//! Must not: parse frames (`connection`) or decide who may do what (`room`).
//! Next: `room.rs` drives commits and appends, `peer.rs` is one local peer: inbox and outbox.

mod announce;
mod inbox;
mod outbox;
mod peer;
mod room;
mod untold;

use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use signalbox_shared::{
    config::Settings,
    id::{NodeId, RoomId},
    keys,
};

use crate::{
    metrics::Metrics,
    room::Rules,
    store::{Arrivals, Delivery, Store},
};

pub use peer::LocalPeer;
pub use room::{Accepted, Answer, LocalRoom};

/// What every room of this node needs.
pub struct Hub {
    /// This node.
    pub node: NodeId,
    /// Where rooms are shared.
    pub store: Store,
    /// The limits of rooms.
    pub rules: Rules,
    /// What operators see.
    pub metrics: Metrics,
}

/// Rooms with peers on this node.
pub struct Registry {
    hub: Arc<Hub>,
    // A std mutex: held to look up, insert or remove one room, never across an await, and not on the message path of
    // one node (a connection holds its room).
    rooms: Arc<Mutex<HashMap<RoomId, Arc<LocalRoom>>>>,
}

impl Registry {
    /// An empty registry.
    pub fn new(node: NodeId, store: Store, settings: &Settings, metrics: Metrics) -> Self {
        let rules = Rules {
            room_peers: settings.limits.room_peers as usize,
            user_peers: settings.limits.user_peers as usize,
            grace_ms: settings.timing.grace.as_ms(),
        };
        Self { hub: Arc::new(Hub { node, store, rules, metrics }), rooms: Arc::default() }
    }

    /// What every room of this node needs.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Adds a local peer to a room, before its join is committed, so that no entry can come too early.
    pub fn register(&self, room: &RoomId, peer: &Arc<LocalPeer>) -> Arc<LocalRoom> {
        let mut rooms = self.lock();
        let local = match rooms.entry(room.clone()) {
            hash_map::Entry::Occupied(found) => found.into_mut(),
            hash_map::Entry::Vacant(place) => {
                place.insert(LocalRoom::new(room.clone(), self.hub.clone(), Arc::downgrade(&self.rooms)))
            }
        };
        local.register(peer);
        local.clone()
    }

    /// The rooms with peers on this node.
    pub fn rooms(&self) -> Vec<Arc<LocalRoom>> {
        self.lock().values().cloned().collect()
    }

    /// Whether nobody is here and nothing waits to be committed.
    pub fn is_quiet(&self) -> bool {
        self.rooms().iter().all(|room| room.is_quiet())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Arc<LocalRoom>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals for Registry {
    fn deliver(&self, room: &RoomId, delivery: Delivery) {
        let found = self.lock().get(room).cloned();
        if let Some(room) = found {
            room.deliver(delivery);
        }
    }

    fn catch_up(&self, partitions: &[usize]) {
        let rooms: Vec<_> = self
            .lock()
            .iter()
            .filter(|(name, _)| partitions.contains(&keys::partition(name)))
            .map(|(_, room)| room.clone())
            .collect();
        for room in rooms {
            room.peers().iter().for_each(|peer| peer.doubt());
        }
    }
}
