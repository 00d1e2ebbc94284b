//! The rooms of this node, by name.
//!
//! Owns: room id → local room, and the list of rooms that must be compared with the store. Must
//! not: read or change the state of a room. Next: `local_room`.

use std::{
    collections::{BTreeSet, HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use signalbox_protocol::id::{NodeId, PeerId, RoomId};
use signalbox_redis::redis_keys;
use tokio::{sync::Notify, time::timeout};

use super::{local_peer::LocalPeer, local_room::LocalRoom};
use crate::node_context::NodeContext;
use signalbox_rooms::{
    room::RoomInput,
    room_service::{ChangeFuture, RoomService},
    store::{Delivery, RoomStore, StoreEvents, StoreUnavailable},
};

/// The longest time of a change that the API requests.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Rooms with peers on this node.
pub struct RoomRegistry {
    context: Arc<NodeContext>,
    // A std mutex: held to find, insert or remove one room, never across an await. The message path
    // of a connection does not lock it, because a connection holds its room.
    rooms: Arc<Mutex<HashMap<RoomId, Arc<LocalRoom>>>>,
    /// Rooms whose peers may have missed entries. A std mutex: held to add or take names.
    stale_rooms: Mutex<BTreeSet<RoomId>>,
    stale_notify: Notify,
}

impl RoomRegistry {
    /// A registry without rooms.
    pub fn new(context: Arc<NodeContext>) -> Self {
        Self { context, rooms: Arc::default(), stale_rooms: Mutex::default(), stale_notify: Notify::new() }
    }

    /// The parts of the node that every room uses.
    pub fn context(&self) -> &NodeContext {
        &self.context
    }

    /// A room, whether or not it has local peers. A room without peers is forgotten when it has no
    /// more inputs.
    pub fn get_or_create_room(&self, room: &RoomId) -> Arc<LocalRoom> {
        self.get_or_create_in(&mut self.lock_rooms(), room)
    }

    fn get_or_create_in(&self, rooms: &mut HashMap<RoomId, Arc<LocalRoom>>, room: &RoomId) -> Arc<LocalRoom> {
        let local = match rooms.entry(room.clone()) {
            hash_map::Entry::Occupied(found) => found.into_mut(),
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(LocalRoom::new(room.clone(), self.context.clone(), Arc::downgrade(&self.rooms)))
            }
        };
        local.clone()
    }

    /// Adds a connection to a room before its peer is committed, so that no entry of the peer is
    /// missed.
    pub fn register_connection(&self, room: &RoomId, peer: &Arc<LocalPeer>) -> Arc<LocalRoom> {
        let mut rooms = self.lock_rooms();
        let local = self.get_or_create_in(&mut rooms, room);
        local.add_pending(peer);
        local
    }

    /// Queues an input for a room, which need not have local peers.
    pub fn queue_input(&self, room: &RoomId, input: RoomInput) {
        self.submit_to(room, |room| room.queue_input(input));
    }

    /// As [`RoomRegistry::queue_input`], and waits for the result.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn submit_input(&self, room: &RoomId, input: RoomInput) -> Result<(), StoreUnavailable> {
        self.submit_to(room, |room| room.submit_input(input, None)).await.map(drop)
    }

    /// Detaches peers of this node that have no connection; returns the other nodes that own peers
    /// of the room.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn reconcile_room(&self, room: &RoomId) -> Result<Vec<NodeId>, StoreUnavailable> {
        let (_, state) = self.submit_to(room, LocalRoom::submit_reconcile).await?;
        Ok(state.owner_nodes().into_iter().filter(|node| **node != self.context.node_id).cloned().collect())
    }

    /// Submits in one step with the search for the room: a room that is forgotten in between would
    /// deliver its entries to no connection.
    fn submit_to<F>(&self, room: &RoomId, submit: impl FnOnce(&Arc<LocalRoom>) -> F) -> F {
        let mut rooms = self.lock_rooms();
        submit(&self.get_or_create_in(&mut rooms, room))
    }

    /// The rooms with peers on this node.
    pub fn local_rooms(&self) -> Vec<Arc<LocalRoom>> {
        self.lock_rooms().values().cloned().collect()
    }

    /// Whether no room has a connection, or an input that waits for its commit.
    pub fn is_idle(&self) -> bool {
        self.local_rooms().iter().all(|room| room.is_idle())
    }

    /// The rooms that were marked stale since the last call; waits until there are some.
    pub async fn wait_for_stale_rooms(&self) -> BTreeSet<RoomId> {
        loop {
            let rooms = std::mem::take(&mut *self.stale_rooms.lock().unwrap_or_else(PoisonError::into_inner));
            if !rooms.is_empty() {
                return rooms;
            }
            self.stale_notify.notified().await;
        }
    }

    /// Marks rooms whose peers may have missed entries.
    pub fn mark_rooms_stale(&self, rooms: impl IntoIterator<Item = RoomId>) {
        self.stale_rooms.lock().unwrap_or_else(PoisonError::into_inner).extend(rooms);
        self.stale_notify.notify_one();
    }

    /// The number of members of a room that this node knows; 0 if it does not know the room.
    pub fn member_count(&self, room: &RoomId) -> usize {
        self.find_room(room).map_or(0, |room| room.member_count())
    }

    fn find_room(&self, room: &RoomId) -> Option<Arc<LocalRoom>> {
        self.lock_rooms().get(room).cloned()
    }

    fn lock_rooms(&self) -> MutexGuard<'_, HashMap<RoomId, Arc<LocalRoom>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomService for RoomRegistry {
    fn change_room<'a>(&'a self, room: &'a RoomId, input: RoomInput) -> ChangeFuture<'a> {
        let result = self.submit_to(room, |room| room.submit_input(input, None));
        Box::pin(async move { timeout(CHANGE_TIMEOUT, result).await.unwrap_or(Err(StoreUnavailable)) })
    }

    fn store(&self) -> &RoomStore {
        &self.context.store
    }
}

impl StoreEvents for RoomRegistry {
    fn deliver_entry(&self, room: &RoomId, delivery: Delivery) {
        if let Some(room) = self.find_room(room) {
            room.deliver_remote_entry(delivery);
        }
    }

    fn resync_peers(&self, room: &RoomId, peers: &[PeerId]) {
        let Some(room) = self.find_room(room) else { return };
        peers.iter().filter_map(|peer| room.find_peer(peer)).for_each(|peer| peer.mark_stale());
    }

    fn resync_partitions(&self, partitions: &[usize]) {
        let rooms = self.lock_rooms();
        let stale = rooms.keys().filter(|room| partitions.contains(&redis_keys::partition_of_room(room)));
        let stale: Vec<RoomId> = stale.cloned().collect();
        drop(rooms);
        self.mark_rooms_stale(stale);
    }
}
