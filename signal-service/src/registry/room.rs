//! One room as this node serves it: its local peers, its view of the shared state, and the driver that commits inputs.
//!
//! A node has one commit per room in flight; inputs that come meanwhile are folded into the next one. The view is a cache that
//! follows what local peers are told: a conflict brings the fresh state and the inputs are decided again on it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use signalbox_shared::{
    id::{PeerId, RoomId, random_hex},
    protocol::LeftReason,
};
use tokio::{sync::oneshot, time::Instant};

use super::{Hub, announce, peer::LocalPeer};
use crate::{
    room::{Decision, Input, Lineage, Outcome, Proof, RoomState, decide},
    store::{Committed, Delivery, EntryKind, Found, Members, Unavailable},
};

/// What became of an input: its outcome and the room as it is now, or nobody knows.
pub(super) type Answer = Result<(Outcome, Arc<RoomState>), Unavailable>;

type Rooms = Mutex<HashMap<RoomId, Arc<LocalRoom>>>;

/// Between two attempts to commit what must happen while the store is away.
const AGAIN: Duration = Duration::from_millis(250);

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
struct Inner {
    peers: HashMap<PeerId, Arc<LocalPeer>>,
    /// Connections that ask for a peer another connection has until they get it.
    arriving: Vec<Arc<LocalPeer>>,
    view: Option<Arc<RoomState>>,
    members: Arc<Members>,
    /// Whether the view is known to be older than what a local peer was told.
    behind: bool,
    queue: Vec<Queued>,
    driving: bool,
}

impl Inner {
    fn is_quiet(&self) -> bool {
        self.peers.is_empty() && self.arriving.is_empty() && self.queue.is_empty() && !self.driving
    }
}

struct Queued {
    input: Input,
    accepted: Option<(PeerId, u64)>,
    answer: Option<oneshot::Sender<Answer>>,
}

impl LocalRoom {
    pub(super) fn new(id: RoomId, hub: Arc<Hub>, rooms: Weak<Rooms>) -> Arc<Self> {
        Arc::new(Self { id, hub, rooms, inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
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

    /// Queues an input and waits for what becomes of it. `accepted` is the id that the peer's request carried.
    pub async fn submit(self: &Arc<Self>, input: Input, accepted: Option<(PeerId, u64)>) -> Answer {
        self.begin(input, accepted).await.unwrap_or(Err(Unavailable))
    }

    /// Queues an input; the answer comes through what is returned.
    pub(super) fn begin(
        self: &Arc<Self>,
        input: Input,
        accepted: Option<(PeerId, u64)>,
    ) -> oneshot::Receiver<Answer> {
        let (tx, rx) = oneshot::channel();
        self.queue(Queued { input, accepted, answer: Some(tx) });
        rx
    }

    /// Queues a look at who of this node is there without a socket. In one step with the list of those who have one, or who joins
    /// meanwhile would be missing there.
    pub(super) fn begin_sweep(self: &Arc<Self>) -> oneshot::Receiver<Answer> {
        let (tx, rx) = oneshot::channel();
        let mut inner = self.inner();
        let live = inner.peers.keys().cloned().chain(inner.arriving.iter().map(|peer| peer.id.clone()));
        let input = Input::Sweep { node: self.hub.node.clone(), live: live.collect() };
        inner.queue.push(Queued { input, accepted: None, answer: Some(tx) });
        self.drive_in(&mut inner);
        rx
    }

    /// Queues an input that must happen whoever waits for it.
    pub fn post(self: &Arc<Self>, input: Input) {
        self.queue(Queued { input, accepted: None, answer: None });
    }

    fn queue(self: &Arc<Self>, queued: Queued) {
        let mut inner = self.inner();
        inner.queue.push(queued);
        self.drive_in(&mut inner);
    }

    fn drive_in(self: &Arc<Self>, inner: &mut Inner) {
        if !std::mem::replace(&mut inner.driving, true) {
            let room = self.clone();
            // Not on the worker that happens to be here: topics are read elsewhere, and workers stop before rooms do.
            self.hub.runtime.spawn(async move { room.drive().await });
        }
    }

    async fn drive(self: Arc<Self>) {
        loop {
            let (batch, behind) = {
                let mut inner = self.inner();
                let batch = std::mem::take(&mut inner.queue);
                inner.driving = !batch.is_empty() || inner.behind;
                (batch, inner.behind)
            };
            if !batch.is_empty() {
                self.commit(batch).await;
            } else if behind {
                if self.refresh().await.is_err() {
                    tokio::time::sleep(AGAIN).await;
                }
            } else {
                return self.forget_if_idle();
            }
        }
    }

    /// Reads the room. None if there is none.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn refresh(&self) -> Result<Found, Unavailable> {
        self.inner().behind = false;
        match self.hub.store.load(&self.id).await {
            Ok(found) => {
                self.take_view(&found);
                Ok(found)
            }
            Err(Unavailable) => {
                self.inner().behind = true;
                Err(Unavailable)
            }
        }
    }

    /// What would become of an input now. Nothing is changed.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn consult(&self, input: Input) -> Result<Outcome, Unavailable> {
        let outcome = self.refresh().await.map(|_| {
            let view = self.view();
            decide(&view, view.read_at, &[input], &self.hub.rules).outcomes.first().copied()
        });
        self.forget_if_idle();
        Ok(outcome?.unwrap_or(Outcome::Gone))
    }

    /// Commits a batch, deciding again on each conflict.
    async fn commit(self: &Arc<Self>, batch: Vec<Queued>) {
        let hub = &self.hub;
        let inputs: Vec<Input> = batch.iter().map(|queued| queued.input.clone()).collect();
        let accepted: Vec<(PeerId, u64)> =
            batch.iter().filter_map(|queued| queued.accepted.clone()).collect();
        // Whether the view has been compared with the store since the batch came.
        let mut fresh = false;
        loop {
            if !fresh && inputs.iter().any(|input| self.needs_fresh_view(input)) {
                fresh = true;
                if self.refresh().await.is_err() {
                    return self.put_off(batch, None).await;
                }
            }
            let view = self.view();
            let now = hub.store.now_ms().max(view.read_at);
            let decision = decide(&view, now, &inputs, &hub.rules);
            if decision.is_empty() && !fresh {
                // No commit will compare the view, and a refusal must not rest on an old one.
                fresh = true;
                if self.refresh().await.is_err() {
                    return self.put_off(batch, None).await;
                }
                continue;
            }
            if decision.is_empty() {
                return answer(batch, &decision.outcomes, &view);
            }
            let commit = announce::commit(&self.id, &hub.node, now, &view, &decision, accepted.clone());
            match hub.store.commit(&self.id, &hub.node, &commit).await {
                Ok(Committed::Applied(lineage, deliveries)) => {
                    let lost = lost_here(hub, &view, &decision);
                    let next = Arc::new(RoomState { lineage, ..decision.next });
                    self.set_view(Some(next.clone()));
                    deliveries.into_iter().for_each(|delivery| self.deliver(delivery));
                    lost.iter().filter_map(|peer| self.peer(peer)).for_each(|peer| peer.doubt());
                    return answer(batch, &decision.outcomes, &next);
                }
                Ok(Committed::Conflict(found)) => {
                    self.take_view(&found);
                    fresh = true;
                }
                Err(Unavailable) => return self.put_off(batch, Some(&decision)).await,
            }
        }
    }

    /// What rests on the store's clock, or on whether it may have forgotten the room, is not decided on a guess.
    fn needs_fresh_view(&self, input: &Input) -> bool {
        match input {
            Input::Tick => true,
            Input::Attach(claim) | Input::Replace { old: claim, .. } => {
                self.inner().view.is_none() || matches!(claim.proof, Proof::Socket { .. })
            }
            _ => false,
        }
    }

    /// The store did not answer. Requests learn so; what must happen is queued again after a pause, and what may have been applied
    /// without anybody to serve it is taken back. Local peers read their mailboxes, since entries may have been written.
    async fn put_off(self: &Arc<Self>, batch: Vec<Queued>, decision: Option<&Decision>) {
        self.inner().behind = true;
        let mut again = Vec::new();
        for (place, queued) in batch.into_iter().enumerate() {
            let outcome = decision.and_then(|decision| decision.outcomes.get(place));
            if let Some(input) = undone(&queued.input, outcome) {
                again.push(Queued { input, accepted: None, answer: None });
            }
            if let Some(waiting) = queued.answer {
                // The asker may have gone.
                let _ = waiting.send(Err(Unavailable));
            }
        }
        if decision.is_some() {
            self.peers().iter().for_each(|peer| peer.suspect());
        }
        tokio::time::sleep(AGAIN).await;
        self.inner().queue.extend(again);
    }

    /// Entries that went straight to a peer may not have arrived, and its connection is gone: whoever serves it next is told.
    pub fn shatter(self: &Arc<Self>, peer: &PeerId) {
        let (room, peer) = (self.clone(), peer.clone());
        self.hub.runtime.spawn(async move {
            while room.hub.store.shatter(&room.id, &peer).await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
        });
    }

    /// Whether nobody is here and nothing waits to be committed.
    pub fn is_quiet(&self) -> bool {
        self.inner().is_quiet()
    }

    fn view(&self) -> Arc<RoomState> {
        // Nothing known: decide as for a new room; if it exists, the conflict brings it.
        let unknown = || Arc::new(RoomState::new(random_hex().into(), Lineage::default()));
        self.inner().view.clone().unwrap_or_else(unknown)
    }

    fn take_view(&self, found: &Found) {
        let forgotten = |view: &Arc<RoomState>| {
            let may_be = view.lineage != found.lineage && !view.members.is_empty();
            may_be.then(|| view.restored(found.lineage.clone(), found.now))
        };
        let view = match &found.room {
            Some(room) => room.clone(),
            // The store has forgotten a room that this node knows: it is made again as it was.
            None => self.known().as_ref().and_then(forgotten).unwrap_or_else(|| RoomState {
                read_at: found.now,
                ..RoomState::new(random_hex().into(), found.lineage.clone())
            }),
        };
        self.set_view(Some(Arc::new(view)));
    }

    fn set_view(&self, view: Option<Arc<RoomState>>) {
        let members = view.as_ref().map_or_else(Members::default, |view| Members {
            version: view.version,
            peers: view.members.keys().cloned().collect(),
        });
        let mut inner = self.inner();
        inner.members = Arc::new(members);
        inner.view = view;
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
    fn forget_if_idle(&self) {
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
fn lost_here(hub: &Hub, view: &RoomState, decision: &Decision) -> Vec<PeerId> {
    let ours = view.members.iter().filter(|(_, member)| member.owner() == Some(&hub.node));
    let changed = ours.filter(|(peer, member)| {
        let after = decision.next.members.get(*peer);
        after.is_none_or(|after| after.epoch != member.epoch || after.owner() != member.owner())
    });
    changed.map(|(peer, _)| peer.clone()).collect()
}

/// What must be done about an input whose fate is unknown, beside telling its asker.
fn undone(input: &Input, outcome: Option<&Outcome>) -> Option<Input> {
    match (input, outcome) {
        (Input::Join { peer, member }, _) => {
            Some(Input::Leave { peer: peer.clone(), epoch: member.epoch, reason: LeftReason::Left })
        }
        (Input::Replace { peer, .. }, Some(Outcome::Done)) => {
            Some(Input::Leave { peer: peer.clone(), epoch: 1, reason: LeftReason::Left })
        }
        (Input::Attach(claim), Some(Outcome::Attached(epoch))) => {
            Some(Input::Detach { peer: claim.peer.clone(), epoch: *epoch })
        }
        (Input::Detach { .. } | Input::Leave { .. } | Input::Sweep { .. }, _) => Some(input.clone()),
        // Asked for again by whoever still wants it.
        (
            Input::Update { .. }
            | Input::Bury { .. }
            | Input::Tick
            | Input::Attach(_)
            | Input::Replace { .. },
            _,
        ) => None,
    }
}

fn answer(batch: Vec<Queued>, outcomes: &[Outcome], state: &Arc<RoomState>) {
    for (queued, outcome) in batch.into_iter().zip(outcomes) {
        if let Some(waiting) = queued.answer {
            // The asker may have gone.
            let _ = waiting.send(Ok((*outcome, state.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use signalbox_shared::{config::Settings, id::NodeId};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{
        metrics::Metrics,
        registry::Registry,
        store::{Bounds, Store},
    };

    async fn socket() -> Arc<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Arc::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap())
    }

    /// Two connections got the same peer, one after the other; their tasks hear of it in any order.
    #[tokio::test]
    async fn the_newest_epoch_has_the_peer_whoever_settles_last() {
        let settings = Settings::default();
        let store = Store::memory(Bounds::new(&settings.limits, &settings.timing), None);
        let registry = Registry::new(NodeId::from_bits(1), store, &settings, Metrics::new().unwrap());
        let name = RoomId::parse("r").unwrap();
        let mut connections = Vec::new();
        for epoch in [2, 3] {
            let peer = LocalPeer::new(PeerId::from_bits(7), socket().await, &settings.limits);
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
