//! Forwards the messages of one sender: redact, append, deliver. Or deliver directly, while the
//! store is unavailable.
//!
//! Owns: one store call for a batch of messages, a retry on a fresh view where the room has
//! changed, and the delivery to local targets. Must not: know the rules of a role
//! (`payload_filter`), or the order of the requests of a peer (`connection::request_queue`). Next:
//! `local_peer` renders an entry and sends it.
//!
//! Redaction uses this node's view of the room. The view may be old, so a redacted message is
//! appended only if the room still has the version of that view. A role that changes on another
//! node is therefore known before the message is written. While the store is unavailable the last
//! known role of the target counts, or the one that its connection holds.

use std::{ops::Range, sync::Arc};

use futures_util::FutureExt as _;
use signalbox_protocol::{ErrorCode, ForwardKind, id::PeerId};
use signalbox_rooms::{
    room::RoomState,
    store::{
        AppendBatch, AppendError, AppendResult, AppendResults, BacklogBound, Delivery, MemberList,
        MessageTarget, OutgoingEntry, RefusedIds, StoreUnavailable,
    },
};

use super::{local_peer::LocalPeer, local_room::LocalRoom};
use crate::payload_filter::{FilteredPayload, MessageRefusal, RelayOnlyRoles};

/// How often messages are tried on a fresh view before the sender must send them again.
const MAX_VIEW_REFRESHES: usize = 16;

/// A message that its sender may send.
#[derive(Debug, Clone)]
pub struct OutgoingMessage {
    /// The message id.
    pub id: Option<u64>,
    /// The targets.
    pub target: MessageTarget,
    /// The frame without `seq`.
    pub body: Arc<str>,
    /// The payload, if it may have to be redacted for a target.
    pub redactable: Option<PayloadRange>,
}

/// The payload of a message in its frame.
#[derive(Debug, Clone)]
pub struct PayloadRange {
    /// The kind of the message.
    pub kind: ForwardKind,
    /// The bytes of its JSON in the frame.
    pub range: Range<usize>,
}

/// The result for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardResult {
    /// Written to every target, or withheld from a target that must not see it.
    Written,
    /// Written before.
    Duplicate,
    /// The target is not in the room.
    NoSuchPeer,
    /// The same id was refused with this code before.
    RefusedBefore(ErrorCode),
    /// Too much waits.
    Backlogged(BacklogBound),
    /// The payload cannot be read, so it cannot be redacted.
    Refused(MessageRefusal),
}

impl ForwardResult {
    /// The code of the answer, if the message was refused.
    pub fn refusal_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Written | Self::Duplicate => None,
            Self::NoSuchPeer => Some(ErrorCode::NoSuchPeer),
            Self::Backlogged(_) => Some(ErrorCode::PeerBacklogged),
            Self::RefusedBefore(code) | Self::Refused(MessageRefusal { code, .. }) => Some(*code),
        }
    }
}

/// The progress of a sender, which its calls report to the store.
#[derive(Debug, Clone)]
pub struct SenderProgress {
    /// The last entry of its own mailbox that the sender has.
    pub acked_seq: u64,
    /// The id up to which all its messages are settled.
    pub last_id: u64,
    /// Its refused ids that the store does not know yet.
    pub refused: RefusedIds,
    /// The generation of the handle that its client has, if the store does not know it yet.
    pub handle_generation: Option<u64>,
}

impl SenderProgress {
    /// The next call may accept a later id.
    fn record_results(&mut self, messages: &[OutgoingMessage], results: &[ForwardResult]) {
        for (message, result) in messages.iter().zip(results) {
            if let Some(code) = result.refusal_code() {
                self.record_refused(message.id, code);
            }
        }
    }

    fn record_refused(&mut self, id: Option<u64>, code: ErrorCode) {
        if let Some(id) = id {
            self.refused.insert(id, code);
        }
    }
}

/// As [`append_messages`], if the store answers at once. None if it does not: then nothing was done.
pub fn append_at_once(
    room: &LocalRoom,
    sender: &LocalPeer,
    progress: &mut SenderProgress,
    messages: &[OutgoingMessage],
) -> Option<Result<Vec<ForwardResult>, AppendError>> {
    let memory = room.context.store.memory()?;
    let mut results = Vec::with_capacity(messages.len());
    let (batch, refusals) = build_batch(room, sender, progress, messages);
    match memory.append(&room.id, &room.context.node_id, &batch) {
        Ok(appended) => deliver_results(room, sender, &batch, appended, refusals, &mut results),
        Err(error) => return Some(Err(error)),
    }
    if results.len() == messages.len() {
        return Some(Ok(results));
    }
    let rest = &messages[results.len()..];
    progress.record_results(messages, &results);
    Box::pin(async {
        room.refresh_view().await?;
        results.append(&mut append_messages(room, sender, progress.clone(), rest).await?);
        Ok(results)
    })
    .now_or_never()
}

/// Appends the messages of one sender and delivers them to local targets. Returns one result for
/// each message.
///
/// # Errors
/// [`AppendError`]; with `Unavailable` some messages may have been written.
pub async fn append_messages(
    room: &LocalRoom,
    sender: &LocalPeer,
    mut progress: SenderProgress,
    messages: &[OutgoingMessage],
) -> Result<Vec<ForwardResult>, AppendError> {
    let mut results = Vec::with_capacity(messages.len());
    for _ in 0..MAX_VIEW_REFRESHES {
        let (batch, refusals) = build_batch(room, sender, &mut progress, &messages[results.len()..]);
        let timer = room.context.metrics.append_seconds.start_timer();
        let appended = room.context.store.append(&room.id, &room.context.node_id, &batch).await;
        drop(timer);
        if let Err(AppendError::Unavailable(_)) = appended {
            // Entries for local peers may have been written, and this node does not have them.
            room.local_peers().iter().for_each(|peer| peer.mark_uncertain());
        }
        deliver_results(room, sender, &batch, appended?, refusals, &mut results);
        if results.len() == messages.len() {
            return Ok(results);
        }
        progress.record_results(messages, &results);
        room.refresh_view().await?;
    }
    Err(AppendError::Unavailable(StoreUnavailable))
}

/// A message that is not in the batch: its index, and why.
type RedactionRefusals = Vec<(usize, MessageRefusal)>;

/// The messages, redacted on the known view of the room, as one call of the store.
fn build_batch(
    room: &LocalRoom,
    sender: &LocalPeer,
    progress: &mut SenderProgress,
    messages: &[OutgoingMessage],
) -> (AppendBatch, RedactionRefusals) {
    let (members, entries, refusals) = redact_messages(room, messages);
    for (index, refusal) in &refusals {
        progress.record_refused(messages[*index].id, refusal.code);
    }
    let batch = AppendBatch {
        sender: sender.id.clone(),
        epoch: sender.epoch(),
        mailbox_version: sender.mailbox_version(),
        acked_seq: progress.acked_seq,
        token: sender.access_subject().token.clone(),
        known_last_id: progress.last_id,
        refused: progress.refused.clone(),
        handle_generation: progress.handle_generation,
        members,
        entries,
    };
    (batch, refusals)
}

/// Delivers what was written and adds a result for each message. It ends before a message that is
/// stale: it must be redacted again, on a fresh view of the room.
fn deliver_results(
    room: &LocalRoom,
    sender: &LocalPeer,
    batch: &AppendBatch,
    appended: AppendResults,
    refusals: RedactionRefusals,
    results: &mut Vec<ForwardResult>,
) {
    if appended.mailbox_version != batch.mailbox_version {
        sender.mark_stale();
    }
    let mut written = batch.entries.iter().zip(appended.results);
    let mut refusals = refusals.into_iter().peekable();
    for index in 0..batch.entries.len() + refusals.len() {
        results.push(match refusals.next_if(|(refused, _)| *refused == index) {
            Some((_, refusal)) => ForwardResult::Refused(refusal),
            None => match written.next() {
                Some((_, AppendResult::Stale)) | None => return,
                Some((entry, result)) => deliver_result(room, &sender.id, entry, result),
            },
        });
    }
}

fn deliver_result(
    room: &LocalRoom,
    sender: &PeerId,
    entry: &OutgoingEntry,
    result: AppendResult,
) -> ForwardResult {
    match result {
        AppendResult::Written(deliveries) => {
            mark_missed_targets_stale(room, sender, entry, &deliveries);
            room.deliver_entries(deliveries);
            ForwardResult::Written
        }
        AppendResult::Duplicate => {
            // The answer of the first call was lost, and with it the entries for local peers.
            room.local_peers().iter().for_each(|peer| peer.mark_stale());
            ForwardResult::Duplicate
        }
        AppendResult::RefusedBefore(code) => ForwardResult::RefusedBefore(code),
        AppendResult::Backlogged(bound) => {
            room.context.metrics.count_backlogged(bound);
            room.recount_backlog();
            ForwardResult::Backlogged(bound)
        }
        // The caller handles `Stale`.
        AppendResult::NoSuchPeer | AppendResult::Stale => ForwardResult::NoSuchPeer,
    }
}

/// Marks local targets without a delivery as stale. In the store such a peer is detached, so its
/// mailbox has an entry that this node has not delivered.
fn mark_missed_targets_stale(
    room: &LocalRoom,
    sender: &PeerId,
    entry: &OutgoingEntry,
    deliveries: &[Delivery],
) {
    match &entry.target {
        MessageTarget::Peer(peer) if deliveries.is_empty() => {
            room.find_peer(peer).inspect(|peer| peer.mark_stale());
        }
        MessageTarget::Room if deliveries.len() + 1 < room.local_peer_count() => {
            let is_target = |peer: &LocalPeer| deliveries.iter().any(|delivery| delivery.peer == peer.id);
            let peers = room.local_peers().into_iter();
            peers.filter(|peer| peer.id != *sender && !is_target(peer)).for_each(|peer| peer.mark_stale());
        }
        _ => {}
    }
}

/// Delivers a message directly, outside the mailboxes, while the store is unavailable. None if a
/// target is not on this node or cannot take a direct message.
pub fn forward_direct(
    room: &LocalRoom,
    sender: &LocalPeer,
    message: &OutgoingMessage,
) -> Option<ForwardResult> {
    let targets: Vec<PeerId> = match &message.target {
        MessageTarget::Peer(peer) => vec![peer.clone()],
        MessageTarget::Room => {
            room.known_members().peers.iter().filter(|peer| **peer != sender.id).cloned().collect()
        }
        MessageTarget::Withheld => Vec::new(),
    };
    let find_target = |peer: &PeerId| room.find_peer(peer).filter(|peer| peer.accepts_direct_from(sender));
    let targets: Vec<_> = targets.iter().map(find_target).collect::<Option<_>>()?;
    room.context.metrics.direct_messages.inc();
    let entry = match redact_message(room, room.known_state().as_deref(), message) {
        Ok(entry) => entry,
        Err(refused) => return Some(ForwardResult::Refused(refused)),
    };
    if entry.target != MessageTarget::Withheld {
        targets.iter().for_each(|peer| peer.deliver_direct(&sender.id, &entry));
    }
    Some(ForwardResult::Written)
}

/// Redacts each message for its target, all on one version of the room. The refusals have the indices
/// of their messages.
fn redact_messages(
    room: &LocalRoom,
    messages: &[OutgoingMessage],
) -> (Arc<MemberList>, Vec<OutgoingEntry>, Vec<(usize, MessageRefusal)>) {
    let (members, state) = room.members_and_state();
    let (mut entries, mut refusals) = (Vec::with_capacity(messages.len()), Vec::new());
    for (index, message) in messages.iter().enumerate() {
        match redact_message(room, state.as_deref(), message) {
            Ok(entry) => entries.push(entry),
            Err(refusal) => refusals.push((index, refusal)),
        }
    }
    (members, entries, refusals)
}

/// The entry to write for a message.
fn redact_message(
    room: &LocalRoom,
    state: Option<&RoomState>,
    message: &OutgoingMessage,
) -> Result<OutgoingEntry, MessageRefusal> {
    let (id, target, body) = (message.id, message.target.clone(), message.body.clone());
    let (Some(payload), MessageTarget::Peer(peer), Some(roles)) =
        (&message.redactable, &message.target, &room.context.relay_only_roles)
    else {
        return Ok(OutgoingEntry { id, target, body, requires_room_version: false });
    };
    let body = match is_relay_only_target(room, roles, state, peer) {
        true => redact_body(roles, message, payload)?,
        false => Some(body),
    };
    let (target, body) = body.map_or((MessageTarget::Withheld, "".into()), |body| (target, body));
    Ok(OutgoingEntry { id, target, body, requires_room_version: true })
}

fn is_relay_only_target(
    room: &LocalRoom,
    roles: &RelayOnlyRoles,
    state: Option<&RoomState>,
    peer: &PeerId,
) -> bool {
    let member = state.and_then(|state| state.members.get(peer));
    if member.is_some_and(|member| roles.contains_role(&member.role)) {
        return true;
    }
    let local_peer = room.find_peer(peer).filter(|_| !room.is_store_available());
    let permissions = local_peer.and_then(|peer| peer.permissions());
    permissions.is_some_and(|permissions| roles.contains_role(&permissions.role))
}

/// The frame that a peer with a relay-only role may see; none if it must not see the message at
/// all.
fn redact_body(
    roles: &RelayOnlyRoles,
    message: &OutgoingMessage,
    payload: &PayloadRange,
) -> Result<Option<Arc<str>>, MessageRefusal> {
    let range = payload.range.clone();
    let Some(json) = message.body.get(range.clone()) else { return Ok(None) };
    Ok(match roles.redact_payload(payload.kind, json)? {
        FilteredPayload::Drop => None,
        FilteredPayload::Forward(redacted) if *redacted == *json => Some(message.body.clone()),
        FilteredPayload::Forward(redacted) => {
            Some([&message.body[..range.start], &redacted, &message.body[range.end..]].concat().into())
        }
    })
}
