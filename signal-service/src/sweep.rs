//! What a change of the rules does to those who are here already: a task that judges every connection of the node, tells words, and puts
//! changed limits in force.
//!
//! Owns: the pace. Must not: end a connection itself; each is told its code and ends by itself, which takes its peer out of the room.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use signalbox_access::{Control, Rules, Verdict, Word};
use signalbox_protocol::{LeftReason, ServerMessage};
use signalbox_rooms::room::{Input, Presence};
use tokio::{sync::broadcast::error::RecvError, task::yield_now, time::sleep};

use crate::{
    door::Door,
    registry::{LocalRoom, Registry},
    standing::detached_subject,
};

/// So many are judged before others have their turn.
const SLICE: usize = 128;

/// How often it is looked whether changed limits have ended.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the task; it ends with the registry.
pub(crate) fn start(registry: &Arc<Registry>, door: &Arc<Door>, control: &Arc<Control>) {
    let runtime = &registry.hub().runtime;
    let sweeper =
        Sweeper { registry: Arc::downgrade(registry), door: door.clone(), control: control.clone() };
    runtime.spawn(sweeper.follow_rules());
    runtime.spawn(tell_words(Arc::downgrade(registry), control.clone()));
}

struct Sweeper {
    registry: Weak<Registry>,
    door: Arc<Door>,
    control: Arc<Control>,
}

impl Sweeper {
    async fn follow_rules(self) {
        let mut changes = self.control.watch();
        changes.mark_changed();
        loop {
            let changed = tokio::select! {
                changed = changes.changed() => changed.is_ok(),
                () = sleep(LOOK) => false,
            };
            let Some(registry) = self.registry.upgrade() else { return };
            let rules = changes.borrow_and_update().clone();
            self.limit(&registry, &rules).await;
            if changed {
                self.sweep(&registry, &rules).await;
            }
        }
    }

    async fn limit(&self, registry: &Registry, rules: &Rules) {
        let hub = registry.hub();
        if !hub.limits.change(&rules.limits(self.control.now_ms())) {
            return;
        }
        let (backlog, connections) = (hub.limits.backlog(), hub.limits.connections());
        self.door.set_most(connections);
        hub.store.set_backlog(backlog);
        let (room_peers, user_peers, (burst, rate)) =
            (hub.limits.room_peers(), hub.limits.user_peers(), hub.limits.pace());
        tracing::warn!(event = "limits_changed", room_peers, user_peers, connections, burst, rate, backlog);
        for room in registry.rooms() {
            room.connections().iter().for_each(|peer| peer.set_backlog(backlog));
            yield_now().await;
        }
    }

    /// Judges everybody here. Each slice by the newest rules: what changes meanwhile is another sweep anyway.
    async fn sweep(&self, registry: &Registry, rules: &Rules) {
        if rules.is_empty() {
            return;
        }
        let (mut judged, mut closed) = (0, 0_usize);
        let now = self.control.now_ms();
        for room in registry.rooms() {
            for peer in room.connections() {
                if let Err(verdict) = rules.judge(&peer.standing().subject(), now)
                    && peer.close(verdict.close_code())
                {
                    registry.hub().metrics.swept(verdict.code());
                    closed += 1;
                }
                judged += 1;
                if judged % SLICE == 0 {
                    yield_now().await;
                }
            }
            judged += remove_detached(&room, rules, now);
        }
        if closed > 0 {
            tracing::warn!(event = "swept", judged, closed, rules = rules.len());
        }
    }
}

/// Takes out of a room whose socket is lost anyway, so that the others need not see it until its window is over. Every node that knows the
/// room may: whoever has resumed meanwhile is of a newer epoch and stays, to be judged where it is. How many were judged.
fn remove_detached(room: &Arc<LocalRoom>, rules: &Rules, now: u64) -> usize {
    let Some(view) = room.known() else { return 0 };
    let detached = view.members.iter().filter(|(_, m)| matches!(m.presence, Presence::Detached(_)));
    for (peer, member) in detached {
        let reason = match rules.judge(&detached_subject(&room.id, member), now) {
            Err(Verdict::Banned | Verdict::AddressDenied) => LeftReason::Banned,
            Err(Verdict::Revoked) => LeftReason::Revoked,
            Err(Verdict::ShutDown { .. }) | Ok(()) => continue,
        };
        room.post(Input::Leave { peer: peer.clone(), epoch: member.epoch, reason });
    }
    view.members.len()
}

/// Tells what is said to those it is said to, outside the mailboxes: who is not connected now does not hear it.
async fn tell_words(registry: Weak<Registry>, control: Arc<Control>) {
    let mut words = control.words();
    drop(control);
    loop {
        match words.recv().await {
            Ok(word) => match registry.upgrade() {
                Some(registry) => tell(&registry, &word).await,
                None => return,
            },
            Err(RecvError::Lagged(missed)) => tracing::warn!(event = "words_missed", missed),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn tell(registry: &Registry, word: &Word) {
    let (code, message) = (word.code.to_string(), word.message.to_string());
    let notice = [ServerMessage::Notice { seq: None, code, message }];
    let mut told = 0;
    for room in registry.rooms() {
        if !word.to.may_be_in(&room.id) {
            continue;
        }
        for peer in room.peers() {
            if word.to.includes(&room.id, &peer.standing().user) {
                peer.announce(&notice);
                told += 1;
                if told % SLICE == 0 {
                    yield_now().await;
                }
            }
        }
    }
    tracing::info!(event = "notice_told", code = %word.code, told);
}
