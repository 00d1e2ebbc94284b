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

use super::{local_peer::LocalPeer, room_driver::QueuedInput};
use crate::node_context::{NodeContext, STORE_RETRY_DELAY};
use signalbox_rooms::{
    room::RoomState,
    store::{Delivery, EntryKind, MemberList, StoreUnavailable},
};

type RoomMap = Mutex<HashMap<RoomId, Arc<LocalRoom>>>;

/// A room with peers on this node.
pub struct LocalRoom {
    /// Its name.
    pub id: RoomId,
    pub(super) context: Arc<NodeContext>,
    room_map: Weak<RoomMap>,
    // A std mutex: held to queue an input, look up a peer or swap the view, never across an await.
    state: Mutex<LocalRoomState>,
}

#[derive(Default)]
pub(super) struct LocalRoomState {
    pub(super) peers: HashMap<PeerId, Arc<LocalPeer>>,
    /// Connections that ask for a peer another connection has until they get it.
    pub(super) pending_connections: Vec<Arc<LocalPeer>>,
    pub(super) view: Option<Arc<RoomState>>,
    pub(super) members: Arc<MemberList>,
    /// Whether the view is known to be older than what a local peer was told.
    pub(super) is_view_stale: bool,
    pub(super) input_queue: Vec<QueuedInput>,
    pub(super) is_driving: bool,
}

impl LocalRoomState {
    fn is_idle(&self) -> bool {
        self.peers.is_empty()
            && self.pending_connections.is_empty()
            && self.input_queue.is_empty()
            && !self.is_driving
    }
}

impl LocalRoom {
    pub(super) fn new(id: RoomId, hub: Arc<NodeContext>, rooms: Weak<RoomMap>) -> Arc<Self> {
        Arc::new(Self { id, context: hub, room_map: rooms, state: Mutex::default() })
    }

    pub(super) fn lock_state(&self) -> MutexGuard<'_, LocalRoomState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection asks for a peer: from now on it collects what comes for it.
    pub(super) fn add_pending(&self, peer: &Arc<LocalPeer>) {
        self.lock_state().pending_connections.push(peer.clone());
    }

    /// The connection has its peer. An older connection of this node that had it finds out and ends; which one is older, its epoch
    /// says: they may hear of their turn in any order.
    pub fn activate_peer(&self, peer: &Arc<LocalPeer>) {
        let mut inner = self.lock_state();
        inner.pending_connections.retain(|other| !Arc::ptr_eq(other, peer));
        let known = inner.peers.get(&peer.id).cloned();
        let older = match known {
            Some(newer) if newer.epoch() > peer.epoch() => Some(peer.clone()),
            _ => inner.peers.insert(peer.id.clone(), peer.clone()),
        };
        drop(inner);
        older.iter().for_each(|older| older.mark_stale());
    }

    /// Removes a connection whose socket is gone; the entries of its peer stay in the mailbox.
    pub fn unregister_connection(&self, peer: &Arc<LocalPeer>) {
        let mut inner = self.lock_state();
        inner.pending_connections.retain(|other| !Arc::ptr_eq(other, peer));
        if inner.peers.get(&peer.id).is_some_and(|found| Arc::ptr_eq(found, peer)) {
            inner.peers.remove(&peer.id);
        }
        drop(inner);
        self.forget_if_idle();
    }

    /// The local peers.
    pub fn local_peers(&self) -> Vec<Arc<LocalPeer>> {
        self.lock_state().peers.values().cloned().collect()
    }

    /// The local peers, and the connections that ask to be one.
    pub fn local_connections(&self) -> Vec<Arc<LocalPeer>> {
        let inner = self.lock_state();
        inner.peers.values().chain(&inner.pending_connections).cloned().collect()
    }

    /// A local peer.
    pub fn find_peer(&self, peer: &PeerId) -> Option<Arc<LocalPeer>> {
        self.lock_state().peers.get(peer).cloned()
    }

    /// Whether the store that holds the room answers.
    pub fn is_store_available(&self) -> bool {
        self.context.store.is_room_available(&self.id)
    }

    /// How many of its peers are here.
    pub(super) fn local_peer_count(&self) -> usize {
        self.lock_state().peers.len()
    }

    /// How many peers the room has, as this node knows it.
    pub fn member_count(&self) -> usize {
        self.lock_state().members.peers.len()
    }

    /// The room as this node knows it, if it does.
    pub fn known_state(&self) -> Option<Arc<RoomState>> {
        self.lock_state().view.clone()
    }

    pub(super) fn known_members(&self) -> Arc<MemberList> {
        self.lock_state().members.clone()
    }

    /// Who is in it and the room, at one version.
    pub(super) fn members_and_state(&self) -> (Arc<MemberList>, Option<Arc<RoomState>>) {
        let inner = self.lock_state();
        (inner.members.clone(), inner.view.clone())
    }

    /// Hands an entry of this node's own calls to a local peer.
    pub(super) fn deliver_entry(&self, delivery: Delivery) {
        let inner = self.lock_state();
        let peer = inner.peers.get(&delivery.peer).cloned();
        let arriving: Vec<_> =
            inner.pending_connections.iter().filter(|peer| peer.id == delivery.peer).cloned().collect();
        drop(inner);
        for peer in arriving.into_iter().chain(peer) {
            peer.deliver_entry(delivery.clone());
        }
    }

    /// Hands an entry that another node wrote to a local peer. If it tells of a change of the room, the view follows.
    pub(super) fn deliver_remote_entry(self: &Arc<Self>, delivery: Delivery) {
        if delivery.entry.kind != EntryKind::Forwarded {
            let mut inner = self.lock_state();
            inner.is_view_stale = true;
            self.start_driver(&mut inner);
        }
        self.deliver_entry(delivery);
    }

    /// Entries that went straight to a peer may not have arrived, and its connection is gone: whoever serves it next is told.
    pub fn invalidate_mailbox(self: &Arc<Self>, peer: &PeerId) {
        let (room, peer) = (self.clone(), peer.clone());
        self.context.runtime.spawn(async move {
            while room.context.store.invalidate_mailbox(&room.id, &peer).await.is_err() {
                sleep(STORE_RETRY_DELAY).await;
            }
        });
    }

    /// Whether nobody is here and nothing waits to be committed.
    pub fn is_idle(&self) -> bool {
        self.lock_state().is_idle()
    }

    /// Asks the store how far the mailboxes of the local peers have come; those that have missed something read theirs.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn compare_heads(&self) -> Result<(), StoreUnavailable> {
        let (peers, asked) = (self.local_peers(), Instant::now());
        let ids: Vec<PeerId> = peers.iter().map(|peer| peer.id.clone()).collect();
        let heads = self.context.store.load_mailbox_heads(&self.id, &ids).await?;
        for (peer, head) in peers.iter().zip(&heads) {
            peer.compare_head(&self.context.node_id, head, asked);
        }
        self.forget_if_idle();
        Ok(())
    }

    /// A room without local peers or inputs is forgotten, unless it came to life meanwhile.
    pub(super) fn forget_if_idle(&self) {
        let Some(rooms) = self.room_map.upgrade() else { return };
        let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
        // A peer registers, and an input is queued, only while the map or this room is locked: idle stays idle here.
        let idle = self.lock_state().is_idle();
        if idle && rooms.get(&self.id).is_some_and(|found| std::ptr::eq(&**found, self)) {
            rooms.remove(&self.id);
        }
    }
}

/// Peers of this node that another connection has now, or nobody.
#[cfg(test)]
mod tests {
    use signalbox_config::ServiceSettings;
    use signalbox_protocol::id::NodeId;
    use signalbox_rooms::store::{RoomStore, StoreLimits};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{connection_subject::ConnectionSubject, node_metrics::NodeMetrics};

    async fn open_socket() -> Arc<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Arc::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap())
    }

    fn sample_subject(room: &RoomId) -> ConnectionSubject {
        use signalbox_protocol::id::{CallerId, TokenId, UserId};
        let (user, token) = (UserId::parse("ann").unwrap(), TokenId::random());
        ConnectionSubject {
            room: room.clone(),
            user,
            token,
            issued_s: 0,
            issuer: CallerId::app(),
            address: None,
        }
    }

    /// Two connections got the same peer, one after the other; their tasks hear of it in any order.
    #[tokio::test]
    async fn the_connection_with_the_newest_epoch_keeps_the_peer() {
        let settings = ServiceSettings::default();
        let store = RoomStore::in_memory(StoreLimits::new(&settings), None);
        let context = NodeContext::new(NodeId::from_bits(1), store, &settings, NodeMetrics::new().unwrap());
        let name = RoomId::parse("r").unwrap();
        let room = LocalRoom::new(name.clone(), context, Weak::new());
        let mut connections = Vec::new();
        for epoch in [2, 3] {
            let peer = LocalPeer::new(
                PeerId::from_bits(7),
                sample_subject(&name),
                open_socket().await,
                &settings.limits,
            );
            room.add_pending(&peer);
            peer.set_epoch(epoch);
            connections.push(peer);
        }
        room.activate_peer(&connections[1]);
        room.activate_peer(&connections[0]);
        room.unregister_connection(&connections[0]);
        let found = room.find_peer(&connections[1].id).expect("the newest connection");
        assert!(Arc::ptr_eq(&found, &connections[1]));
    }
}
