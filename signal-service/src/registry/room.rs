//! One room as this node serves it: its local peers, its view of the shared state, and the driver that commits inputs.
//!
//! A node has one commit per room in flight; inputs that come meanwhile are folded into the next one. The view is a cache:
//! a conflict brings the fresh state and the inputs are decided again on it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use signalbox_shared::{
    id::{PeerId, RoomId, random_hex},
    protocol::LeftReason,
};
use tokio::sync::oneshot;

use super::{Hub, announce, peer::LocalPeer};
use crate::{
    room::{Input, Outcome, Presence, RoomState, decide},
    store::{Append, AppendError, Appended, Committed, Delivery, Item, Members, Unavailable},
};

/// What became of an input: its outcome and the room as it is now, or nobody knows.
pub type Answer = Result<(Outcome, Arc<RoomState>), Unavailable>;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Written to every target.
    Written,
    /// Had been written before.
    Duplicate,
    /// The target is not in the room.
    NoSuchPeer,
    /// A target takes no more for now.
    Backlogged,
}

/// How often a message to the room is tried on a fresh view before the sender is told to come again.
const FRESH_VIEWS: usize = 16;

type Rooms = Mutex<HashMap<RoomId, Arc<LocalRoom>>>;

/// A room with peers on this node.
pub struct LocalRoom {
    /// Its name.
    pub id: RoomId,
    hub: Arc<Hub>,
    rooms: Weak<Rooms>,
    // A std mutex: held to queue an input, look up a peer or swap the view, never across an await.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    peers: HashMap<PeerId, Arc<LocalPeer>>,
    view: Option<Arc<RoomState>>,
    members: Arc<Members>,
    queue: Vec<Queued>,
    driving: bool,
    timer_armed: bool,
}

impl Inner {
    fn is_quiet(&self) -> bool {
        self.peers.is_empty() && self.queue.is_empty() && !self.driving
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

    pub(super) fn register(&self, peer: &Arc<LocalPeer>) {
        self.inner().peers.insert(peer.id.clone(), peer.clone());
    }

    /// Removes a local peer whose socket is gone; its entries stay in its mailbox.
    pub fn unregister(&self, peer: &LocalPeer) {
        self.inner().peers.remove(&peer.id);
        self.forget_if_idle();
    }

    /// The local peers.
    pub fn peers(&self) -> Vec<Arc<LocalPeer>> {
        self.inner().peers.values().cloned().collect()
    }

    /// How many peers the room has, as this node knows it.
    pub fn size(&self) -> usize {
        self.inner().members.peers.len()
    }

    /// Hands an entry to a local peer.
    pub fn deliver(&self, delivery: Delivery) {
        let peer = self.inner().peers.get(&delivery.peer).cloned();
        if let Some(peer) = peer {
            peer.deliver(delivery);
        }
    }

    /// Queues an input and waits for what becomes of it. `accepted` is the id that the peer's request carried.
    pub async fn submit(self: &Arc<Self>, input: Input, accepted: Option<(PeerId, u64)>) -> Answer {
        let (tx, rx) = oneshot::channel();
        self.queue(Queued { input, accepted, answer: Some(tx) });
        rx.await.unwrap_or(Err(Unavailable))
    }

    /// Queues an input that must happen whoever waits for it.
    pub fn post(self: &Arc<Self>, input: Input) {
        self.queue(Queued { input, accepted: None, answer: None });
    }

    fn queue(self: &Arc<Self>, queued: Queued) {
        self.queue_in(&mut self.inner(), queued);
    }

    fn queue_in(self: &Arc<Self>, inner: &mut Inner, queued: Queued) {
        inner.queue.push(queued);
        if !std::mem::replace(&mut inner.driving, true) {
            let room = self.clone();
            tokio::task::spawn_local(async move { room.drive().await });
        }
    }

    async fn drive(self: Arc<Self>) {
        loop {
            let batch = {
                let mut inner = self.inner();
                let batch = std::mem::take(&mut inner.queue);
                inner.driving = !batch.is_empty();
                batch
            };
            if batch.is_empty() {
                return self.forget_if_idle();
            }
            self.commit(batch).await;
        }
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
            let view = self.view();
            let now = hub.store.now_ms();
            let decision = decide(&view, now, &inputs, &hub.rules);
            if decision.is_empty() && !fresh {
                // No commit will compare the view, and a refusal must not rest on an old one.
                match hub.store.load(&self.id).await {
                    Ok(state) => self.set_view(state.map(Arc::new)),
                    Err(Unavailable) => return self.put_off(batch).await,
                }
                fresh = true;
                continue;
            }
            if decision.is_empty() {
                self.arm_timer(&view, now);
                return answer(batch, &decision.outcomes, &view);
            }
            let commit = announce::commit(&self.id, &hub.node, now, &view, &decision, accepted.clone());
            match hub.store.commit(&self.id, &hub.node, &commit).await {
                Ok(Committed::Applied(deliveries)) => {
                    let next = Arc::new(decision.next);
                    self.set_view((!commit.ends).then(|| next.clone()));
                    deliveries.into_iter().for_each(|delivery| self.deliver(delivery));
                    self.arm_timer(&next, now);
                    return answer(batch, &decision.outcomes, &next);
                }
                Ok(Committed::Conflict(state)) => {
                    self.set_view(state.map(Arc::new));
                    fresh = true;
                }
                Err(Unavailable) => return self.put_off(batch).await,
            }
        }
    }

    /// The store did not answer. Requests learn so; what must happen is queued again after a pause, and a join that may have
    /// been applied is followed by a leave. Local peers read their mailboxes, since entries may have been written.
    async fn put_off(self: &Arc<Self>, batch: Vec<Queued>) {
        self.set_view(None);
        let mut again = Vec::new();
        for queued in batch {
            match &queued.input {
                Input::Join { peer, member } => {
                    let undo =
                        Input::Leave { peer: peer.clone(), epoch: member.epoch, reason: LeftReason::Left };
                    again.push(Queued { input: undo, accepted: None, answer: None });
                }
                Input::Update { .. } => {}
                _ => again.push(Queued { input: queued.input.clone(), accepted: None, answer: None }),
            }
            if let Some(waiting) = queued.answer {
                // The asker may have gone.
                let _ = waiting.send(Err(Unavailable));
            }
        }
        self.peers().iter().for_each(|peer| peer.doubt());
        tokio::time::sleep(Duration::from_millis(250)).await;
        self.inner().queue.extend(again);
    }

    /// While a peer of this node is detached, one timer looks again when the first grace is over.
    fn arm_timer(self: &Arc<Self>, state: &RoomState, now: u64) {
        let ours = state.members.values().filter(|member| member.owner == self.hub.node);
        let first = ours.filter_map(|member| match member.presence {
            Presence::Detached(until) => Some(until),
            Presence::Attached => None,
        });
        let Some(until) = first.min() else { return };
        if std::mem::replace(&mut self.inner().timer_armed, true) {
            return;
        }
        let room = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(until.saturating_sub(now) + 1)).await;
            let tick =
                Queued { input: Input::Tick { node: room.hub.node.clone() }, accepted: None, answer: None };
            // Under one lock, or the room could be forgotten in between.
            let mut inner = room.inner();
            inner.timer_armed = false;
            room.queue_in(&mut inner, tick);
        });
    }

    /// The node stops: its detached peers leave now, since nobody here will notice that their grace is over.
    pub fn give_up_detached(self: &Arc<Self>) {
        let Some(view) = self.inner().view.clone() else { return };
        for (peer, member) in &view.members {
            if member.owner == self.hub.node && member.presence != Presence::Attached {
                let (peer, epoch, reason) = (peer.clone(), member.epoch, LeftReason::Timeout);
                self.post(Input::Leave { peer, epoch, reason });
            }
        }
    }

    /// Whether nobody is here and nothing waits to be committed.
    pub fn is_quiet(&self) -> bool {
        self.inner().is_quiet()
    }

    fn view(&self) -> Arc<RoomState> {
        // Nothing known: decide as for a new room; if it exists, the conflict brings it.
        self.inner().view.clone().unwrap_or_else(|| Arc::new(RoomState::new(random_hex().into())))
    }

    fn set_view(&self, view: Option<Arc<RoomState>>) {
        let members = view.as_ref().map_or_else(Members::default, |view| Members {
            version: view.version,
            peers: view.members.keys().cloned().collect(),
        });
        let mut inner = self.inner();
        inner.members = Arc::new(members);
        let before = std::mem::replace(&mut inner.view, view.clone());
        let another_life = matches!((before, view), (Some(a), Some(b)) if a.incarnation != b.incarnation);
        drop(inner);
        if another_life {
            // The room of these peers has ended and another has its name: each finds out by asking.
            self.peers().iter().for_each(|peer| peer.doubt());
        }
    }

    /// Appends one sender's messages and hands the entries for local peers out. One result for each message.
    ///
    /// # Errors
    /// [`AppendError`]; with `Unavailable` some may have been written.
    pub async fn append(
        &self,
        sender: &LocalPeer,
        acked: u64,
        mut items: Vec<Item>,
    ) -> Result<Vec<Accepted>, AppendError> {
        let mut results = Vec::with_capacity(items.len());
        for _ in 0..FRESH_VIEWS {
            let members = self.inner().members.clone();
            let batch = Append { sender: sender.id.clone(), epoch: sender.epoch, acked, members, items };
            let timer = self.hub.metrics.append_seconds.start_timer();
            let appended = self.hub.store.append(&self.id, &self.hub.node, &batch).await;
            timer.observe_duration();
            if let Err(AppendError::Unavailable(_)) = appended {
                // Entries for local peers may have been written, and nobody hands them out.
                self.peers().iter().for_each(|peer| peer.doubt());
            }
            let appended = appended?;
            let stale = matches!(appended.last(), Some(Appended::Stale));
            let done = appended.len() - usize::from(stale);
            results.extend(appended.into_iter().take(done).map(|result| self.hand_out(result)));
            if !stale {
                return Ok(results);
            }
            items = batch.items;
            items.drain(..done);
            let fresh = self.hub.store.load(&self.id).await?;
            self.set_view(fresh.map(Arc::new));
        }
        Err(AppendError::Unavailable(Unavailable))
    }

    fn hand_out(&self, result: Appended) -> Accepted {
        match result {
            Appended::Written(deliveries) => {
                deliveries.into_iter().for_each(|delivery| self.deliver(delivery));
                Accepted::Written
            }
            Appended::Duplicate => {
                // The first time its answer was lost, and with it what local peers should have been handed.
                self.peers().iter().for_each(|peer| peer.doubt());
                Accepted::Duplicate
            }
            Appended::Backlogged => Accepted::Backlogged,
            // `Stale` was taken off by the caller.
            Appended::NoSuchPeer | Appended::Stale => Accepted::NoSuchPeer,
        }
    }

    /// Reads what a local peer's mailbox holds beyond its inbox, and delivers it.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn catch_up(&self, peer: &LocalPeer) -> Result<(), Unavailable> {
        const PAGE: usize = 64;
        loop {
            let before = peer.delivered();
            // What comes to be doubted while the page is on its way is not answered by it.
            peer.begin_read();
            let read = self.hub.store.read(&self.id, &peer.id, peer.epoch, before, PAGE).await;
            let page = read.inspect_err(|_| peer.doubt())?;
            let full = page.len() == PAGE;
            peer.deliver_page(page);
            // A page that begins beyond a gap brings nothing forward; reading it again would not either.
            if !full || peer.delivered() == before {
                return Ok(());
            }
        }
    }

    /// A room without local peers, inputs or timers is forgotten, unless it came to life meanwhile.
    fn forget_if_idle(&self) {
        let Some(rooms) = self.rooms.upgrade() else { return };
        let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = self.inner();
        let idle = inner.is_quiet() && !inner.timer_armed;
        drop(inner);
        // A peer registers, and a timer queues, only while the map or this room is locked: idle stays idle here.
        if idle && rooms.get(&self.id).is_some_and(|found| std::ptr::eq(&**found, self)) {
            rooms.remove(&self.id);
        }
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
