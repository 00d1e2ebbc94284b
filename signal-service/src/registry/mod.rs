//! Which rooms and peers this node serves.
//!
//! Owns: room → local peers, the room driver (one commit in flight per room), delivery to local sockets.
//! Must not: parse frames (`connection`) or decide who may do what (`room`).
//! Next: `driver.rs` commits, `forward.rs` appends, `peer.rs` is one local peer: inbox and outbox.

mod forward;
mod inbox;
mod local_peer;
mod local_room;
mod outbox;
mod redaction;
mod room_driver;
mod unacked;

use std::{
    collections::{BTreeSet, HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use signalbox_config::ServiceSettings;
use signalbox_protocol::id::{NodeId, PeerId, RoomId};
use signalbox_redis::redis_keys;
use tokio::{sync::Notify, time::timeout};

use crate::{effective_limits::EffectiveLimits, node_metrics::NodeMetrics, payload_filter::RelayOnlyRoles};
use signalbox_rooms::{
    removal::{RemovalHook, RemovedPeer, find_removed_peers, removed_peers},
    room::{Decision, RoomInput},
    room_service::{ChangeFuture, RoomService},
    store::{Delivery, RoomStore, StoreEvents, StoreUnavailable},
};

pub use forward::{ForwardResult, OutgoingMessage, PayloadRange, SenderProgress};
pub use local_peer::{LocalPeer, PeerPermissions, PendingWork};
pub use local_room::LocalRoom;

/// What every room of this node needs.
pub struct NodeContext {
    /// This node.
    pub node_id: NodeId,
    /// Where rooms are shared.
    pub store: RoomStore,
    /// The limits that may change.
    pub limits: EffectiveLimits,
    /// What operators see.
    pub metrics: NodeMetrics,
    /// The roles that are told of relayed candidates only, if there are any.
    pub relay_only_roles: Option<RelayOnlyRoles>,
    /// Where rooms are driven.
    pub runtime: tokio::runtime::Handle,
    removal_hook: OnceLock<RemovalHook>,
}

impl NodeContext {
    /// Says who was removed by a commit, to whoever keeps such peers away.
    fn notify_removed(&self, room: &RoomId, removed: impl IntoIterator<Item = RemovedPeer>) {
        for who in removed {
            tracing::info!(event = "removed", room = %room, peer = %who.peer, user = %who.user);
            if let Some(hook) = self.removal_hook.get() {
                hook(who);
            }
        }
    }

    /// Nobody knows whether a commit was done: who was removed by it all the same must not come back.
    fn resolve_uncertain_removals(hub: &Arc<Self>, room: &RoomId, decision: &Decision) {
        let doubtful: Vec<_> = removed_peers(decision).collect();
        if doubtful.is_empty() {
            return;
        }
        let (here, room) = (hub.clone(), room.clone());
        hub.runtime.spawn(async move {
            here.notify_removed(&room, find_removed_peers(&here.store, &room, doubtful).await);
        });
    }
}

/// How long a change that the API asks for may take.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Rooms with peers on this node.
pub struct RoomRegistry {
    context: Arc<NodeContext>,
    // A std mutex: held to look up, insert or remove one room, never across an await, and not on the message path of
    // one node (a connection holds its room).
    rooms: Arc<Mutex<HashMap<RoomId, Arc<LocalRoom>>>>,
    /// Rooms whose peers may have missed something. A std mutex: held to add or take names.
    stale_rooms: Mutex<BTreeSet<RoomId>>,
    stale_notify: Notify,
}

impl RoomRegistry {
    /// An empty registry. Rooms are driven on the runtime it is made in.
    pub fn new(node: NodeId, store: RoomStore, settings: &ServiceSettings, metrics: NodeMetrics) -> Self {
        let limits = EffectiveLimits::new(settings);
        let runtime = tokio::runtime::Handle::current();
        let (relays, on_taken_back) = (RelayOnlyRoles::new(settings), OnceLock::new());
        let context = Arc::new(NodeContext {
            node_id: node,
            store,
            limits,
            metrics,
            relay_only_roles: relays,
            runtime,
            removal_hook: on_taken_back,
        });
        Self { context, rooms: Arc::default(), stale_rooms: Mutex::default(), stale_notify: Notify::new() }
    }

    /// What every room of this node needs.
    pub fn context(&self) -> &NodeContext {
        &self.context
    }

    /// From now on this hears of everybody who is removed by a moderator or the API, after the commit. The first one stands.
    pub fn set_removal_hook(&self, hook: RemovalHook) {
        // Only `main` sets it.
        let _ = self.context.removal_hook.set(hook);
    }

    /// A room, whether or not it has peers here; without any it is forgotten when nothing is left to do for it.
    pub fn get_or_create_room(&self, room: &RoomId) -> Arc<LocalRoom> {
        self.get_or_create_in(&mut self.lock_rooms(), room)
    }

    fn get_or_create_in(&self, rooms: &mut HashMap<RoomId, Arc<LocalRoom>>, room: &RoomId) -> Arc<LocalRoom> {
        let local = match rooms.entry(room.clone()) {
            hash_map::Entry::Occupied(found) => found.into_mut(),
            hash_map::Entry::Vacant(place) => {
                place.insert(LocalRoom::new(room.clone(), self.context.clone(), Arc::downgrade(&self.rooms)))
            }
        };
        local.clone()
    }

    /// Adds a connection to a room before its peer is committed, so that no entry can come too early.
    pub fn register_connection(&self, room: &RoomId, peer: &Arc<LocalPeer>) -> Arc<LocalRoom> {
        let mut rooms = self.lock_rooms();
        let local = self.get_or_create_in(&mut rooms, room);
        local.add_pending(peer);
        local
    }

    /// Queues an input for a room that need not be served here. In one step with finding it: a room that is forgotten in between
    /// would hand its entries to nobody.
    pub fn queue_input(&self, room: &RoomId, input: RoomInput) {
        let mut rooms = self.lock_rooms();
        self.get_or_create_in(&mut rooms, room).queue_input(input);
    }

    /// As [`RoomRegistry::queue_input`], and waits for what becomes of it.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn submit_input(&self, room: &RoomId, input: RoomInput) -> Result<(), StoreUnavailable> {
        let answer = {
            let mut rooms = self.lock_rooms();
            self.get_or_create_in(&mut rooms, room).queue_and_watch(input, None)
        };
        answer.await.unwrap_or(Err(StoreUnavailable)).map(drop)
    }

    /// Detaches peers of this node that have no socket here; returns which other nodes serve somebody in the room.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn reconcile_room(&self, room: &RoomId) -> Result<Vec<NodeId>, StoreUnavailable> {
        let answer = {
            let mut rooms = self.lock_rooms();
            self.get_or_create_in(&mut rooms, room).queue_reconcile()
        };
        let (_, state) = answer.await.unwrap_or(Err(StoreUnavailable))?;
        Ok(state.owner_nodes().into_iter().filter(|node| **node != self.context.node_id).cloned().collect())
    }

    /// The rooms with peers on this node.
    pub fn local_rooms(&self) -> Vec<Arc<LocalRoom>> {
        self.lock_rooms().values().cloned().collect()
    }

    /// Whether nobody is here and nothing waits to be committed.
    pub fn is_idle(&self) -> bool {
        self.local_rooms().iter().all(|room| room.is_idle())
    }

    /// Rooms whose peers may have missed something since the last call; waits until there are some.
    pub async fn wait_for_stale_rooms(&self) -> BTreeSet<RoomId> {
        loop {
            let rooms = std::mem::take(&mut *self.stale_rooms.lock().unwrap_or_else(PoisonError::into_inner));
            if !rooms.is_empty() {
                return rooms;
            }
            self.stale_notify.notified().await;
        }
    }

    /// Peers of these rooms may have missed something.
    pub fn mark_rooms_stale(&self, rooms: impl IntoIterator<Item = RoomId>) {
        self.stale_rooms.lock().unwrap_or_else(PoisonError::into_inner).extend(rooms);
        self.stale_notify.notify_one();
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
        let answer = {
            let mut rooms = self.lock_rooms();
            self.get_or_create_in(&mut rooms, room).queue_and_watch(input, None)
        };
        Box::pin(async move {
            let answer = timeout(CHANGE_TIMEOUT, answer).await.map_err(|_| StoreUnavailable)?;
            answer.unwrap_or(Err(StoreUnavailable))
        })
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
        let concerned = rooms.keys().filter(|room| partitions.contains(&redis_keys::partition_of_room(room)));
        let concerned: Vec<RoomId> = concerned.cloned().collect();
        drop(rooms);
        self.mark_rooms_stale(concerned);
    }
}
