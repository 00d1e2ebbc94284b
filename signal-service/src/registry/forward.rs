//! Forwarding: a sender's messages into the mailboxes of their targets, or straight to them while the store is away.
//!
//! Owns: one call of the store for a batch, again on a fresh view where the room has moved on, and handing the entries out. Must not:
//! know what a role may do (`rules`), or the order of requests (`connection::requests`). Next: `told` chooses what a target is told.

use std::{ops::Range, sync::Arc};

use signalbox_protocol::{ForwardKind, id::PeerId};

use super::{local_peer::LocalPeer, local_room::LocalRoom};
use crate::payload_filter::MessageRefusal;
use signalbox_rooms::store::{
    AppendBatch, AppendError, AppendResult, AppendResults, Delivery, MemberList, MessageTarget,
    OutgoingEntry, StoreUnavailable,
};

/// How often a message to the room is tried on a fresh view before the sender is told to come again.
const MAX_VIEW_REFRESHES: usize = 16;

/// A message as its sender may send it.
#[derive(Debug, Clone)]
pub struct OutgoingMessage {
    /// The sender's number.
    pub id: Option<u64>,
    /// Who gets it.
    pub target: MessageTarget,
    /// The frame without `seq`.
    pub body: Arc<str>,
    /// Where addresses may stand in it that not every target may be told; none where all may be.
    pub redactable: Option<PayloadRange>,
}

/// The payload of a message in its frame.
#[derive(Debug, Clone)]
pub struct PayloadRange {
    /// What kind of message it is.
    pub kind: ForwardKind,
    /// Where its JSON stands.
    pub range: Range<usize>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardResult {
    /// Written to every target, or kept from one that may not be told.
    Written,
    /// Had been written before.
    Duplicate,
    /// The target is not in the room.
    NoSuchPeer,
    /// A target takes no more for now.
    Backlogged,
    /// It cannot be read, so that nobody knows whether its target may be told.
    Refused(MessageRefusal),
}

/// What a sender's call says beside its messages.
#[derive(Debug, Clone, Copy)]
pub struct SenderProgress {
    /// The last entry of its own mailbox that the sender has.
    pub acked_seq: u64,
    /// The highest id of it that is known to be accepted.
    pub last_id: u64,
    /// The handle that its client has now, where the store does not know yet.
    pub handle_generation: Option<u64>,
}

impl LocalRoom {
    /// Appends one sender's messages and hands the entries for local peers out. One result for each message.
    ///
    /// # Errors
    /// [`AppendError`]; with `Unavailable` some may have been written.
    pub async fn append_messages(
        &self,
        sender: &LocalPeer,
        riding: SenderProgress,
        messages: &[OutgoingMessage],
    ) -> Result<Vec<ForwardResult>, AppendError> {
        let mut results = Vec::with_capacity(messages.len());
        for _ in 0..MAX_VIEW_REFRESHES {
            let (members, choices) = self.redact_messages(&messages[results.len()..]);
            let items = choices.iter().filter_map(|choice| choice.as_ref().ok().cloned()).collect();
            let (batch, appended) = self.append_batch(sender, riding, members, items).await?;
            let mut written = batch.entries.iter().zip(appended.results);
            for choice in choices {
                results.push(match choice.map(|_| written.next()) {
                    Err(refused) => ForwardResult::Refused(refused),
                    Ok(Some((_, AppendResult::Stale)) | None) => break,
                    Ok(Some((item, result))) => self.deliver_result(&sender.id, item, result),
                });
            }
            if results.len() == messages.len() {
                return Ok(results);
            }
            self.refresh_view().await?;
        }
        Err(AppendError::Unavailable(StoreUnavailable))
    }

    async fn append_batch(
        &self,
        sender: &LocalPeer,
        riding: SenderProgress,
        members: Arc<MemberList>,
        items: Vec<OutgoingEntry>,
    ) -> Result<(AppendBatch, AppendResults), AppendError> {
        let (id, epoch, mailbox) = (sender.id.clone(), sender.epoch(), sender.mailbox_version());
        let SenderProgress { acked_seq: acked, last_id: floor, handle_generation: handle } = riding;
        let batch = AppendBatch {
            sender: id,
            epoch,
            mailbox_version: mailbox,
            acked_seq: acked,
            known_last_id: floor,
            handle_generation: handle,
            members,
            entries: items,
        };
        let timer = self.context.metrics.append_seconds.start_timer();
        let appended = self.context.store.append(&self.id, &self.context.node_id, &batch).await;
        timer.observe_duration();
        if let Err(AppendError::Unavailable(_)) = appended {
            // Entries for local peers may have been written, and nobody hands them out.
            self.local_peers().iter().for_each(|peer| peer.mark_uncertain());
        }
        let appended = appended?;
        if appended.mailbox_version != mailbox {
            sender.mark_stale();
        }
        Ok((batch, appended))
    }

    fn deliver_result(&self, sender: &PeerId, item: &OutgoingEntry, result: AppendResult) -> ForwardResult {
        match result {
            AppendResult::Written(deliveries) => {
                self.mark_missed_targets_stale(sender, item, &deliveries);
                deliveries.into_iter().for_each(|delivery| self.deliver_entry(delivery));
                ForwardResult::Written
            }
            AppendResult::Duplicate => {
                // The first time its answer was lost, and with it what local peers should have been handed.
                self.local_peers().iter().for_each(|peer| peer.mark_stale());
                ForwardResult::Duplicate
            }
            AppendResult::Backlogged => ForwardResult::Backlogged,
            // `Stale` was taken off by the caller.
            AppendResult::NoSuchPeer | AppendResult::Stale => ForwardResult::NoSuchPeer,
        }
    }

    /// A target with its socket here that is not handed the entry here: somebody took it for lost, and its mailbox holds more than it
    /// was given.
    fn mark_missed_targets_stale(&self, sender: &PeerId, item: &OutgoingEntry, deliveries: &[Delivery]) {
        match &item.target {
            MessageTarget::Peer(peer) if deliveries.is_empty() => {
                self.find_peer(peer).inspect(|peer| peer.mark_stale());
            }
            MessageTarget::Room if deliveries.len() + 1 < self.local_peer_count() => {
                let handed = |peer: &LocalPeer| deliveries.iter().any(|delivery| delivery.peer == peer.id);
                let left_out =
                    self.local_peers().into_iter().filter(|peer| peer.id != *sender && !handed(peer));
                left_out.for_each(|peer| peer.mark_stale());
            }
            _ => {}
        }
    }

    /// Hands a message straight to its targets, outside their mailboxes, if all of them are here and can take it; none if not. Only
    /// while the store is away.
    pub fn forward_direct(&self, sender: &LocalPeer, message: &OutgoingMessage) -> Option<ForwardResult> {
        let targets: Vec<PeerId> = match &message.target {
            MessageTarget::Peer(peer) => vec![peer.clone()],
            MessageTarget::Room => {
                self.known_members().peers.iter().filter(|peer| **peer != sender.id).cloned().collect()
            }
            MessageTarget::Withheld => Vec::new(),
        };
        let here = |peer: &PeerId| self.find_peer(peer).filter(|peer| peer.accepts_direct_from(sender));
        let here: Vec<_> = targets.iter().map(here).collect::<Option<_>>()?;
        self.context.metrics.direct_messages.inc();
        let item = match self.redact_messages(std::slice::from_ref(message)).1.pop()? {
            Ok(item) => item,
            Err(refused) => return Some(ForwardResult::Refused(refused)),
        };
        if item.target != MessageTarget::Withheld {
            here.iter().for_each(|peer| peer.deliver_direct(&sender.id, &item));
        }
        Some(ForwardResult::Written)
    }
}
