//! What a change of the rules does to those who are here already: a task that judges every connection of the node, tells words, and puts
//! changed limits in force.
//!
//! Owns: the pace. Must not: end a connection itself; each is told its code and ends by itself, which takes its peer out of the room.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use signalbox_access::{AccessControl, AccessRefusal, AccessRules, Notice};
use signalbox_protocol::{LeaveReason, ServerMessage};
use signalbox_rooms::room::{PeerAttachment, RoomInput};
use tokio::{sync::broadcast::error::RecvError, task::yield_now, time::sleep};

use crate::{
    admission::AdmissionControl,
    connection_subject::ConnectionSubject,
    registry::{LocalRoom, RoomRegistry},
};

/// So many are judged before others have their turn.
const CHECKS_PER_YIELD: usize = 128;

/// How often it is looked whether changed limits have ended.
const LIMITS_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the task; it ends with the registry.
pub(crate) fn start_access_enforcer(
    registry: &Arc<RoomRegistry>,
    door: &Arc<AdmissionControl>,
    control: &Arc<AccessControl>,
) {
    let runtime = &registry.context().runtime;
    let sweeper = AccessEnforcer {
        registry: Arc::downgrade(registry),
        admission: door.clone(),
        access_control: control.clone(),
    };
    runtime.spawn(sweeper.run_enforcement());
    runtime.spawn(run_notices(Arc::downgrade(registry), control.clone()));
}

struct AccessEnforcer {
    registry: Weak<RoomRegistry>,
    admission: Arc<AdmissionControl>,
    access_control: Arc<AccessControl>,
}

impl AccessEnforcer {
    async fn run_enforcement(self) {
        let mut changes = self.access_control.watch_rules();
        changes.mark_changed();
        loop {
            let changed = tokio::select! {
                changed = changes.changed() => changed.is_ok(),
                () = sleep(LIMITS_CHECK_INTERVAL) => false,
            };
            let Some(registry) = self.registry.upgrade() else { return };
            let rules = changes.borrow_and_update().clone();
            self.apply_limits(&registry, &rules).await;
            if changed {
                self.close_refused_connections(&registry, &rules).await;
            }
        }
    }

    async fn apply_limits(&self, registry: &RoomRegistry, rules: &AccessRules) {
        let hub = registry.context();
        if !hub.limits.apply_changes(&rules.limit_changes(self.access_control.now_ms())) {
            return;
        }
        let (backlog, connections) = (hub.limits.backlog(), hub.limits.connections());
        self.admission.set_max_connections(connections);
        hub.store.set_backlog(backlog);
        let (room_peers, user_peers, (burst, rate)) =
            (hub.limits.room_peers(), hub.limits.user_peers(), hub.limits.burst_and_rate());
        tracing::warn!(event = "limits_changed", room_peers, user_peers, connections, burst, rate, backlog);
        for room in registry.local_rooms() {
            room.local_connections().iter().for_each(|peer| peer.set_backlog(backlog));
            yield_now().await;
        }
    }

    /// Judges everybody here. Each slice by the newest rules: what changes meanwhile is another sweep anyway.
    async fn close_refused_connections(&self, registry: &RoomRegistry, rules: &AccessRules) {
        if rules.is_empty() {
            return;
        }
        let (mut judged, mut closed) = (0, 0_usize);
        let now = self.access_control.now_ms();
        for room in registry.local_rooms() {
            for peer in room.local_connections() {
                if let Err(verdict) = rules.check_access(&peer.access_subject().access_subject(), now)
                    && peer.request_close(verdict.close_code())
                {
                    registry.context().metrics.count_rule_close(verdict.code());
                    closed += 1;
                }
                judged += 1;
                if judged % CHECKS_PER_YIELD == 0 {
                    yield_now().await;
                }
            }
            judged += remove_refused_detached_peers(&room, rules, now);
        }
        if closed > 0 {
            tracing::warn!(event = "swept", judged, closed, rules = rules.len());
        }
    }
}

/// Takes out of a room whose socket is lost anyway, so that the others need not see it until its window is over. Every node that knows the
/// room may: whoever has resumed meanwhile is of a newer epoch and stays, to be judged where it is. How many were judged.
fn remove_refused_detached_peers(room: &Arc<LocalRoom>, rules: &AccessRules, now: u64) -> usize {
    let Some(view) = room.known_state() else { return 0 };
    let detached = view.members.iter().filter(|(_, m)| matches!(m.attachment, PeerAttachment::Detached(_)));
    for (peer, member) in detached {
        let reason = match rules
            .check_access(&ConnectionSubject::from_member(&room.id, member, None).access_subject(), now)
        {
            Err(AccessRefusal::Banned | AccessRefusal::AddressDenied) => LeaveReason::Banned,
            Err(AccessRefusal::Revoked) => LeaveReason::Revoked,
            Err(AccessRefusal::ShutDown { .. }) | Ok(()) => continue,
        };
        room.queue_input(RoomInput::Leave { peer: peer.clone(), epoch: member.epoch, reason });
    }
    view.members.len()
}

/// Tells what is said to those it is said to, outside the mailboxes: who is not connected now does not hear it.
async fn run_notices(registry: Weak<RoomRegistry>, control: Arc<AccessControl>) {
    let mut words = control.subscribe_notices();
    drop(control);
    loop {
        match words.recv().await {
            Ok(word) => match registry.upgrade() {
                Some(registry) => broadcast_notice(&registry, &word).await,
                None => return,
            },
            Err(RecvError::Lagged(missed)) => tracing::warn!(event = "words_missed", missed),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn broadcast_notice(registry: &RoomRegistry, word: &Notice) {
    let (code, message) = (word.code.to_string(), word.message.to_string());
    let notice = [ServerMessage::Notice { seq: None, code, message }];
    let mut told = 0;
    for room in registry.local_rooms() {
        if !word.to.may_include_room(&room.id) {
            continue;
        }
        for peer in room.local_peers() {
            if word.to.includes_peer(&room.id, &peer.access_subject().user) {
                peer.send_if_open(&notice);
                told += 1;
                if told % CHECKS_PER_YIELD == 0 {
                    yield_now().await;
                }
            }
        }
    }
    tracing::info!(event = "notice_told", code = %word.code, told);
}
