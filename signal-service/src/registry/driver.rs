//! The driver of one room: inputs become commits, one in flight, and what comes meanwhile is folded into the next one.
//!
//! Owns: the queue, deciding again on each conflict, and the view, a cache that follows what local peers are told.

use std::{sync::Arc, time::Duration};

use signalbox_protocol::{
    LeftReason,
    id::{PeerId, random_hex},
};
use tokio::sync::oneshot;

use super::{
    Hub,
    room::{Inner, LocalRoom},
};
use signalbox_rooms::{
    announce,
    room::{Decision, Input, Lineage, Outcome, Proof, RoomState, decide},
    store::{Committed, Found, Members, Unavailable},
    taken_back::taken_back,
};

/// What became of an input: its outcome and the room as it is now, or nobody knows.
pub(super) type Answer = Result<(Outcome, Arc<RoomState>), Unavailable>;

/// Between two attempts to commit what must happen while the store is away.
pub(super) const AGAIN: Duration = Duration::from_millis(250);

/// An input that waits for its commit.
pub(super) struct Queued {
    input: Input,
    accepted: Option<(PeerId, u64)>,
    answer: Option<oneshot::Sender<Answer>>,
}

impl LocalRoom {
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

    pub(super) fn drive_in(self: &Arc<Self>, inner: &mut Inner) {
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
            decide(&view, view.read_at, &[input], &self.hub.limits.rules()).outcomes.first().copied()
        });
        self.forget_if_idle();
        Ok(outcome?.unwrap_or(Outcome::Gone))
    }

    /// Commits a batch, deciding again on each conflict.
    async fn commit(self: &Arc<Self>, batch: Vec<Queued>) {
        let hub = &self.hub;
        let inputs: Vec<Input> = batch.iter().map(|queued| queued.input.clone()).collect();
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
            let rules = hub.limits.rules();
            let decision = decide(&view, now, &inputs, &rules);
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
            let commit = announce::commit(
                &self.id,
                &hub.node,
                now,
                &view,
                &decision,
                accepted(&batch, &decision),
                &rules,
            );
            match hub.store.commit(&self.id, &hub.node, &commit).await {
                Ok(Committed::Applied(lineage, deliveries)) => {
                    let opened = view.members.is_empty() && !decision.next.members.is_empty();
                    hub.metrics.rooms_opened.inc_by(u64::from(opened));
                    let lost = lost_here(hub, &view, &decision);
                    hub.tell_taken_back(&self.id, taken_back(&decision));
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
                Err(Unavailable) => {
                    Hub::find_out(hub, &self.id, &decision);
                    return self.put_off(batch, Some(&decision)).await;
                }
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
            peers: view.members.iter().filter(|(_, m)| !m.waiting).map(|(peer, _)| peer.clone()).collect(),
        });
        let mut inner = self.inner();
        inner.members = Arc::new(members);
        inner.view = view;
    }
}

/// The ids of the requests that the decision carries out. One that it refuses has not used its id up.
fn accepted(batch: &[Queued], decision: &Decision) -> Vec<(PeerId, u64)> {
    let done =
        |outcome: &Outcome| matches!(outcome, Outcome::Done | Outcome::Removed(_) | Outcome::Attached(_));
    let carried = batch.iter().zip(&decision.outcomes).filter(|(_, outcome)| done(outcome));
    carried.filter_map(|(queued, _)| queued.accepted.clone()).collect()
}

fn lost_here(hub: &Hub, view: &RoomState, decision: &Decision) -> Vec<PeerId> {
    let ours = view.members.iter().filter(|(_, member)| member.owner() == Some(&hub.node));
    let changed = ours.filter(|(peer, member)| {
        let after = decision.next.members.get(*peer);
        after.is_none_or(|after| {
            let admitted = member.waiting && !after.waiting;
            after.epoch != member.epoch || after.owner() != member.owner() || admitted
        })
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
        // A refresh was good when it was shown, and its client was told so.
        (Input::Detach { .. } | Input::Leave { .. } | Input::Sweep { .. } | Input::Refresh { .. }, _) => {
            Some(input.clone())
        }
        // Asked for again by whoever still wants it.
        (
            Input::Update { .. }
            | Input::Bury { .. }
            | Input::Tick
            | Input::Attach(_)
            | Input::Replace { .. }
            | Input::Manage(_),
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
