//! One room as this node serves it: its local peers and its view of the shared state.
//!
//! Owns: who has a socket here, handing entries to them, and when the room is forgotten. Next: `driver` commits inputs and keeps the
//! view, `forward` appends messages.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use signalbox_protocol::id::{PeerId, RoomId};
use tokio::time::{Instant, sleep};

use super::{
    Hub,
    driver::{AGAIN, Queued},
    peer::LocalPeer,
};
use signalbox_rooms::{
    room::RoomState,
    store::{Delivery, EntryKind, Members, Unavailable},
};

type Rooms = Mutex<HashMap<RoomId, Arc<LocalRoom>>>;

/// A room with peers on this node.
pub struct LocalRoom {
    /// Its name.
    pub id: RoomId,
    pub(super) hub: Arc<Hub>,
    rooms: Weak<Rooms>,
    // A std mutex: held to queue an input, look up a peer or swap the view, never across an await.
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) peers: HashMap<PeerId, Arc<LocalPeer>>,
    /// Connections that ask for a peer another connection has until they get it.
    pub(super) arriving: Vec<Arc<LocalPeer>>,
    pub(super) view: Option<Arc<RoomState>>,
    pub(super) members: Arc<Members>,
    /// Whether the view is known to be older than what a local peer was told.
    pub(super) behind: bool,
    pub(super) queue: Vec<Queued>,
    pub(super) driving: bool,
}

impl Inner {
    fn is_quiet(&self) -> bool {
        self.peers.is_empty() && self.arriving.is_empty() && self.queue.is_empty() && !self.driving
    }
}

impl LocalRoom {
    pub(super) fn new(id: RoomId, hub: Arc<Hub>, rooms: Weak<Rooms>) -> Arc<Self> {
        Arc::new(Self { id, hub, rooms, inner: Mutex::default() })
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection asks for a peer: from now on it collects what comes for it.
    pub(super) fn register(&self, peer: &Arc<LocalPeer>) {
        self.inner().arriving.push(peer.clone());
    }

    /// The connection has its peer. An older connection of this node that had it finds out and ends; which one is older, its epoch
    /// says: they may hear of their turn in any order.
    pub fn settle(&self, peer: &Arc<LocalPeer>) {
        let mut inner = self.inner();
        inner.arriving.retain(|other| !Arc::ptr_eq(other, peer));
        let known = inner.peers.get(&peer.id).cloned();
        let older = match known {
            Some(newer) if newer.epoch() > peer.epoch() => Some(peer.clone()),
            _ => inner.peers.insert(peer.id.clone(), peer.clone()),
        };
        drop(inner);
        older.iter().for_each(|older| older.doubt());
    }

    /// Removes a connection whose socket is gone; the entries of its peer stay in the mailbox.
    pub fn unregister(&self, peer: &Arc<LocalPeer>) {
        let mut inner = self.inner();
        inner.arriving.retain(|other| !Arc::ptr_eq(other, peer));
        if inner.peers.get(&peer.id).is_some_and(|found| Arc::ptr_eq(found, peer)) {
            inner.peers.remove(&peer.id);
        }
        drop(inner);
        self.forget_if_idle();
    }

    /// The local peers.
    pub fn peers(&self) -> Vec<Arc<LocalPeer>> {
        self.inner().peers.values().cloned().collect()
    }

    /// The local peers, and the connections that ask to be one.
    pub fn connections(&self) -> Vec<Arc<LocalPeer>> {
        let inner = self.inner();
        inner.peers.values().chain(&inner.arriving).cloned().collect()
    }

    /// A local peer.
    pub fn peer(&self, peer: &PeerId) -> Option<Arc<LocalPeer>> {
        self.inner().peers.get(peer).cloned()
    }

    /// Whether the store that holds the room answers.
    pub fn is_open(&self) -> bool {
        self.hub.store.is_open(&self.id)
    }

    /// How many of its peers are here.
    pub(super) fn local_count(&self) -> usize {
        self.inner().peers.len()
    }

    /// How many peers the room has, as this node knows it.
    pub fn size(&self) -> usize {
        self.inner().members.peers.len()
    }

    /// The room as this node knows it, if it does.
    pub fn known(&self) -> Option<Arc<RoomState>> {
        self.inner().view.clone()
    }

    pub(super) fn members(&self) -> Arc<Members> {
        self.inner().members.clone()
    }

    /// Who is in it and the room, at one version.
    pub(super) fn members_and_view(&self) -> (Arc<Members>, Option<Arc<RoomState>>) {
        let inner = self.inner();
        (inner.members.clone(), inner.view.clone())
    }

    /// Hands an entry of this node's own calls to a local peer.
    pub(super) fn deliver(&self, delivery: Delivery) {
        let inner = self.inner();
        let peer = inner.peers.get(&delivery.peer).cloned();
        let arriving: Vec<_> =
            inner.arriving.iter().filter(|peer| peer.id == delivery.peer).cloned().collect();
        drop(inner);
        for peer in arriving.into_iter().chain(peer) {
            peer.deliver(delivery.clone());
        }
    }

    /// Hands an entry that another node wrote to a local peer. If it tells of a change of the room, the view follows.
    pub(super) fn deliver_from_afar(self: &Arc<Self>, delivery: Delivery) {
        if delivery.entry.kind != EntryKind::Forwarded {
            let mut inner = self.inner();
            inner.behind = true;
            self.drive_in(&mut inner);
        }
        self.deliver(delivery);
    }

    /// Entries that went straight to a peer may not have arrived, and its connection is gone: whoever serves it next is told.
    pub fn shatter(self: &Arc<Self>, peer: &PeerId) {
        let (room, peer) = (self.clone(), peer.clone());
        self.hub.runtime.spawn(async move {
            while room.hub.store.shatter(&room.id, &peer).await.is_err() {
                sleep(AGAIN).await;
            }
        });
    }

    /// Whether nobody is here and nothing waits to be committed.
    pub fn is_quiet(&self) -> bool {
        self.inner().is_quiet()
    }

    /// Asks the store how far the mailboxes of the local peers have come; those that have missed something read theirs.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn compare(&self) -> Result<(), Unavailable> {
        let (peers, asked) = (self.peers(), Instant::now());
        let ids: Vec<PeerId> = peers.iter().map(|peer| peer.id.clone()).collect();
        let heads = self.hub.store.heads(&self.id, &ids).await?;
        for (peer, head) in peers.iter().zip(&heads) {
            peer.compare(&self.hub.node, head, asked);
        }
        self.forget_if_idle();
        Ok(())
    }

    /// A room without local peers or inputs is forgotten, unless it came to life meanwhile.
    pub(super) fn forget_if_idle(&self) {
        let Some(rooms) = self.rooms.upgrade() else { return };
        let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
        // A peer registers, and an input is queued, only while the map or this room is locked: idle stays idle here.
        let idle = self.inner().is_quiet();
        if idle && rooms.get(&self.id).is_some_and(|found| std::ptr::eq(&**found, self)) {
            rooms.remove(&self.id);
        }
    }
}

/// Peers of this node that another connection has now, or nobody.
#[cfg(test)]
mod tests {
    use signalbox_config::Settings;
    use signalbox_protocol::id::NodeId;
    use signalbox_rooms::store::{Bounds, Store};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{metrics::Metrics, registry::Registry, standing::Standing};

    async fn socket() -> Arc<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Arc::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap())
    }

    fn standing(room: &RoomId) -> Standing {
        use signalbox_protocol::id::{CallerId, TokenId, UserId};
        let (user, token) = (UserId::parse("ann").unwrap(), TokenId::random());
        Standing { room: room.clone(), user, token, issued: 0, caller: CallerId::app(), address: None }
    }

    /// Two connections got the same peer, one after the other; their tasks hear of it in any order.
    #[tokio::test]
    async fn the_newest_epoch_has_the_peer_whoever_settles_last() {
        let settings = Settings::default();
        let store = Store::memory(Bounds::new(&settings), None);
        let registry = Registry::new(NodeId::from_bits(1), store, &settings, Metrics::new().unwrap());
        let name = RoomId::parse("r").unwrap();
        let mut connections = Vec::new();
        for epoch in [2, 3] {
            let peer =
                LocalPeer::new(PeerId::from_bits(7), standing(&name), socket().await, &settings.limits);
            registry.register(&name, &peer);
            peer.set_epoch(epoch);
            connections.push(peer);
        }
        let room = registry.room(&name);
        room.settle(&connections[1]);
        room.settle(&connections[0]);
        room.unregister(&connections[0]);
        let found = room.peer(&connections[1].id).expect("the newest connection");
        assert!(Arc::ptr_eq(&found, &connections[1]));
    }
}
