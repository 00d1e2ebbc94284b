//! Which rooms and peers this node serves.
//!
//! Owns: room → local peers, the room driver (one commit in flight per room), delivery to local sockets.
//! Must not: parse frames (`connection`) or decide who may do what (`room`).
//! Next: `driver.rs` commits, `forward.rs` appends, `peer.rs` is one local peer: inbox and outbox.

mod driver;
mod forward;
mod inbox;
mod outbox;
mod peer;
mod room;
mod told;
mod untold;

use std::{
    collections::{BTreeSet, HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use signalbox_config::Settings;
use signalbox_protocol::id::{NodeId, PeerId, RoomId};
use signalbox_redis::keys;
use tokio::{sync::Notify, time::timeout};

use crate::{limits::Live, metrics::Metrics, rules::RelayRoles};
use signalbox_rooms::{
    clerk::{Changed, Rooms},
    room::{Decision, Input},
    store::{Arrivals, Delivery, Store, Unavailable},
    taken_back::{OnTakenBack, TakenBack, found_out, taken_back},
};

pub use forward::{Accepted, Addresses, Outgoing, Riding};
pub use peer::{Condition, LocalPeer, Powers};
pub use room::LocalRoom;

/// What every room of this node needs.
pub struct Hub {
    /// This node.
    pub node: NodeId,
    /// Where rooms are shared.
    pub store: Store,
    /// The limits that may change.
    pub limits: Live,
    /// What operators see.
    pub metrics: Metrics,
    /// The roles that are told of relayed candidates only, if there are any.
    pub relays: Option<RelayRoles>,
    /// Where rooms are driven.
    pub runtime: tokio::runtime::Handle,
    on_taken_back: OnceLock<OnTakenBack>,
}

impl Hub {
    /// Says who was removed by a commit, to whoever keeps such peers away.
    fn tell_taken_back(&self, room: &RoomId, removed: impl IntoIterator<Item = TakenBack>) {
        for who in removed {
            tracing::info!(event = "removed", room = %room, peer = %who.peer, user = %who.user);
            if let Some(hook) = self.on_taken_back.get() {
                hook(who);
            }
        }
    }

    /// Nobody knows whether a commit was done: who was removed by it all the same must not come back.
    fn find_out(hub: &Arc<Self>, room: &RoomId, decision: &Decision) {
        let doubtful: Vec<_> = taken_back(decision).collect();
        if doubtful.is_empty() {
            return;
        }
        let (here, room) = (hub.clone(), room.clone());
        hub.runtime.spawn(async move {
            here.tell_taken_back(&room, found_out(&here.store, &room, doubtful).await);
        });
    }
}

/// How long a change that the API asks for may take.
const CHANGE_DEADLINE: Duration = Duration::from_secs(5);

/// Rooms with peers on this node.
pub struct Registry {
    hub: Arc<Hub>,
    // A std mutex: held to look up, insert or remove one room, never across an await, and not on the message path of
    // one node (a connection holds its room).
    rooms: Arc<Mutex<HashMap<RoomId, Arc<LocalRoom>>>>,
    /// Rooms whose peers may have missed something. A std mutex: held to add or take names.
    doubted: Mutex<BTreeSet<RoomId>>,
    doubt: Notify,
}

impl Registry {
    /// An empty registry. Rooms are driven on the runtime it is made in.
    pub fn new(node: NodeId, store: Store, settings: &Settings, metrics: Metrics) -> Self {
        let limits = Live::new(settings);
        let runtime = tokio::runtime::Handle::current();
        let (relays, on_taken_back) = (RelayRoles::new(settings), OnceLock::new());
        let hub = Arc::new(Hub { node, store, limits, metrics, relays, runtime, on_taken_back });
        Self { hub, rooms: Arc::default(), doubted: Mutex::default(), doubt: Notify::new() }
    }

    /// What every room of this node needs.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// From now on this hears of everybody who is removed by a moderator or the API, after the commit. The first one stands.
    pub fn on_taken_back(&self, hook: OnTakenBack) {
        // Only `main` sets it.
        let _ = self.hub.on_taken_back.set(hook);
    }

    /// A room, whether or not it has peers here; without any it is forgotten when nothing is left to do for it.
    pub fn room(&self, room: &RoomId) -> Arc<LocalRoom> {
        self.room_in(&mut self.lock(), room)
    }

    fn room_in(&self, rooms: &mut HashMap<RoomId, Arc<LocalRoom>>, room: &RoomId) -> Arc<LocalRoom> {
        let local = match rooms.entry(room.clone()) {
            hash_map::Entry::Occupied(found) => found.into_mut(),
            hash_map::Entry::Vacant(place) => {
                place.insert(LocalRoom::new(room.clone(), self.hub.clone(), Arc::downgrade(&self.rooms)))
            }
        };
        local.clone()
    }

    /// Adds a connection to a room before its peer is committed, so that no entry can come too early.
    pub fn register(&self, room: &RoomId, peer: &Arc<LocalPeer>) -> Arc<LocalRoom> {
        let mut rooms = self.lock();
        let local = self.room_in(&mut rooms, room);
        local.register(peer);
        local
    }

    /// Queues an input for a room that need not be served here. In one step with finding it: a room that is forgotten in between
    /// would hand its entries to nobody.
    pub fn post(&self, room: &RoomId, input: Input) {
        let mut rooms = self.lock();
        self.room_in(&mut rooms, room).post(input);
    }

    /// As [`Registry::post`], and waits for what becomes of it.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn submit(&self, room: &RoomId, input: Input) -> Result<(), Unavailable> {
        let answer = {
            let mut rooms = self.lock();
            self.room_in(&mut rooms, room).begin(input, None)
        };
        answer.await.unwrap_or(Err(Unavailable)).map(drop)
    }

    /// Detaches peers of this node that have no socket here; returns which other nodes serve somebody in the room.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn sweep(&self, room: &RoomId) -> Result<Vec<NodeId>, Unavailable> {
        let answer = {
            let mut rooms = self.lock();
            self.room_in(&mut rooms, room).begin_sweep()
        };
        let (_, state) = answer.await.unwrap_or(Err(Unavailable))?;
        Ok(state.nodes().into_iter().filter(|node| **node != self.hub.node).cloned().collect())
    }

    /// The rooms with peers on this node.
    pub fn rooms(&self) -> Vec<Arc<LocalRoom>> {
        self.lock().values().cloned().collect()
    }

    /// Whether nobody is here and nothing waits to be committed.
    pub fn is_quiet(&self) -> bool {
        self.rooms().iter().all(|room| room.is_quiet())
    }

    /// Rooms whose peers may have missed something since the last call; waits until there are some.
    pub async fn doubted(&self) -> BTreeSet<RoomId> {
        loop {
            let rooms = std::mem::take(&mut *self.doubted.lock().unwrap_or_else(PoisonError::into_inner));
            if !rooms.is_empty() {
                return rooms;
            }
            self.doubt.notified().await;
        }
    }

    /// Peers of these rooms may have missed something.
    pub fn doubt(&self, rooms: impl IntoIterator<Item = RoomId>) {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner).extend(rooms);
        self.doubt.notify_one();
    }

    fn find(&self, room: &RoomId) -> Option<Arc<LocalRoom>> {
        self.lock().get(room).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Arc<LocalRoom>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rooms for Registry {
    fn change<'a>(&'a self, room: &'a RoomId, input: Input) -> Changed<'a> {
        let answer = {
            let mut rooms = self.lock();
            self.room_in(&mut rooms, room).begin(input, None)
        };
        Box::pin(async move {
            let answer = timeout(CHANGE_DEADLINE, answer).await.map_err(|_| Unavailable)?;
            answer.unwrap_or(Err(Unavailable))
        })
    }

    fn store(&self) -> Result<&Store, Unavailable> {
        Ok(&self.hub.store)
    }
}

impl Arrivals for Registry {
    fn deliver(&self, room: &RoomId, delivery: Delivery) {
        if let Some(room) = self.find(room) {
            room.deliver_from_afar(delivery);
        }
    }

    fn look_after(&self, room: &RoomId, peers: &[PeerId]) {
        let Some(room) = self.find(room) else { return };
        peers.iter().filter_map(|peer| room.peer(peer)).for_each(|peer| peer.doubt());
    }

    fn catch_up(&self, partitions: &[usize]) {
        let rooms = self.lock();
        let concerned = rooms.keys().filter(|room| partitions.contains(&keys::partition(room)));
        let concerned: Vec<RoomId> = concerned.cloned().collect();
        drop(rooms);
        self.doubt(concerned);
    }
}
