//! Applies changed access rules to this node: a task that checks every connection, delivers notices
//! and applies changed limits.
//!
//! Owns: the pace of the checks. Must not: end a connection. It only sets the close code; then the
//! task of the connection ends it, and its peer leaves the room.

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

/// The number of checks before other tasks have their turn.
const CHECKS_PER_YIELD: usize = 128;

/// How often the task checks whether changed limits have ended.
const LIMITS_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the tasks; they end with the registry.
pub(crate) fn start_access_enforcer(
    registry: &Arc<RoomRegistry>,
    admission: &Arc<AdmissionControl>,
    access_control: &Arc<AccessControl>,
) {
    let runtime = &registry.context().runtime;
    let enforcer = AccessEnforcer {
        registry: Arc::downgrade(registry),
        admission: admission.clone(),
        access_control: access_control.clone(),
    };
    runtime.spawn(enforcer.run_enforcement());
    runtime.spawn(run_notices(Arc::downgrade(registry), access_control.clone()));
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
        let context = registry.context();
        if !context.limits.apply_changes(&rules.limit_changes(self.access_control.now_ms())) {
            return;
        }
        let (backlog, connections) = (context.limits.backlog(), context.limits.connections());
        self.admission.set_max_connections(connections);
        context.store.set_limits(context.limits.store_limits());
        let (room_peers, user_peers, (burst, rate)) =
            (context.limits.room_peers(), context.limits.user_peers(), context.limits.burst_and_rate());
        tracing::warn!(event = "limits_changed", room_peers, user_peers, connections, burst, rate, backlog);
        for room in registry.local_rooms() {
            room.local_connections().iter().for_each(|peer| peer.set_backlog(backlog));
            yield_now().await;
        }
    }

    /// Checks every connection. A rule that changes meanwhile starts another round.
    async fn close_refused_connections(&self, registry: &RoomRegistry, rules: &AccessRules) {
        if rules.is_empty() {
            return;
        }
        let (mut checked, mut closed) = (0, 0_usize);
        let now = self.access_control.now_ms();
        for room in registry.local_rooms() {
            for peer in room.local_connections() {
                if let Err(refusal) = rules.check_access(&peer.access_subject().access_subject(), now)
                    && peer.request_close(refusal.close_code())
                {
                    registry.context().metrics.count_rule_close(refusal.code());
                    closed += 1;
                }
                checked += 1;
                if checked % CHECKS_PER_YIELD == 0 {
                    yield_now().await;
                }
            }
            checked += remove_refused_detached_peers(&room, rules, now);
        }
        if closed > 0 {
            tracing::warn!(event = "rules_enforced", checked, closed, rules = rules.len());
        }
    }
}

/// Removes the detached peers that the rules refuse, so that the others need not wait for the end
/// of their resume window. Every node that knows the room does so: a peer that has resumed has a
/// newer epoch and stays. Returns how many peers were checked.
fn remove_refused_detached_peers(room: &Arc<LocalRoom>, rules: &AccessRules, now: u64) -> usize {
    let Some(state) = room.known_state() else { return 0 };
    let detached = state.members.iter().filter(|(_, m)| matches!(m.attachment, PeerAttachment::Detached(_)));
    for (peer, member) in detached {
        let subject = ConnectionSubject::from_member(&room.id, member, None);
        let reason = match rules.check_access(&subject.access_subject(), now) {
            Err(AccessRefusal::Banned | AccessRefusal::AddressDenied) => LeaveReason::Banned,
            Err(AccessRefusal::Revoked) => LeaveReason::Revoked,
            Err(AccessRefusal::ShutDown { .. }) | Ok(()) => continue,
        };
        room.queue_input(RoomInput::Leave { peer: peer.clone(), epoch: member.epoch, reason });
    }
    state.members.len()
}

/// Sends notices to connected peers, outside the mailboxes: a detached peer does not get them.
async fn run_notices(registry: Weak<RoomRegistry>, access_control: Arc<AccessControl>) {
    let mut notices = access_control.subscribe_notices();
    drop(access_control);
    loop {
        match notices.recv().await {
            Ok(notice) => match registry.upgrade() {
                Some(registry) => broadcast_notice(&registry, &notice).await,
                None => return,
            },
            Err(RecvError::Lagged(missed)) => tracing::warn!(event = "notices_missed", missed),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn broadcast_notice(registry: &RoomRegistry, notice: &Notice) {
    let (code, message) = (notice.code.to_string(), notice.message.to_string());
    let messages = [ServerMessage::Notice { seq: None, code, message }];
    let mut sent = 0;
    for room in registry.local_rooms() {
        if !notice.to.may_include_room(&room.id) {
            continue;
        }
        for peer in room.local_peers() {
            if notice.to.includes_peer(&room.id, &peer.access_subject().user) {
                peer.send_if_open(&messages);
                sent += 1;
                if sent % CHECKS_PER_YIELD == 0 {
                    yield_now().await;
                }
            }
        }
    }
    tracing::info!(event = "notice_sent", code = %notice.code, sent);
}
