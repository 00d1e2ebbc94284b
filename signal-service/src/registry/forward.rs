//! Forwarding: a sender's messages into the mailboxes of their targets, or straight to them while the store is away.
//!
//! Owns: one call of the store for a batch, again on a fresh view where the room has moved on, and handing the entries out. Must not:
//! know what a role may do (`rules`), or the order of requests (`connection::requests`). Next: `told` chooses what a target is told.

use std::{ops::Range, sync::Arc};

use signalbox_protocol::{ForwardKind, id::PeerId};

use super::{peer::LocalPeer, room::LocalRoom};
use crate::rules::NotAllowed;
use signalbox_rooms::store::{
    Append, AppendError, Appended, Batched, Delivery, Item, Members, Target, Unavailable,
};

/// How often a message to the room is tried on a fresh view before the sender is told to come again.
const FRESH_VIEWS: usize = 16;

/// A message as its sender may send it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The sender's number.
    pub id: Option<u64>,
    /// Who gets it.
    pub to: Target,
    /// The frame without `seq`.
    pub body: Arc<str>,
    /// Where addresses may stand in it that not every target may be told; none where all may be.
    pub addresses: Option<Addresses>,
}

/// The payload of a message in its frame.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// What kind of message it is.
    pub kind: ForwardKind,
    /// Where its JSON stands.
    pub at: Range<usize>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Written to every target, or kept from one that may not be told.
    Written,
    /// Had been written before.
    Duplicate,
    /// The target is not in the room.
    NoSuchPeer,
    /// A target takes no more for now.
    Backlogged,
    /// It cannot be read, so that nobody knows whether its target may be told.
    Refused(NotAllowed),
}

/// What a sender's call says beside its messages.
#[derive(Debug, Clone, Copy)]
pub struct Riding {
    /// The last entry of its own mailbox that the sender has.
    pub acked: u64,
    /// The highest id of it that is known to be accepted.
    pub floor: u64,
    /// The handle that its client has now, where the store does not know yet.
    pub handle: Option<u64>,
}

impl LocalRoom {
    /// Appends one sender's messages and hands the entries for local peers out. One result for each message.
    ///
    /// # Errors
    /// [`AppendError`]; with `Unavailable` some may have been written.
    pub async fn append(
        &self,
        sender: &LocalPeer,
        riding: Riding,
        messages: &[Outgoing],
    ) -> Result<Vec<Accepted>, AppendError> {
        let mut results = Vec::with_capacity(messages.len());
        for _ in 0..FRESH_VIEWS {
            let (members, choices) = self.choose(&messages[results.len()..]);
            let items = choices.iter().filter_map(|choice| choice.as_ref().ok().cloned()).collect();
            let (batch, appended) = self.append_once(sender, riding, members, items).await?;
            let mut written = batch.items.iter().zip(appended.results);
            for choice in choices {
                results.push(match choice.map(|_| written.next()) {
                    Err(refused) => Accepted::Refused(refused),
                    Ok(Some((_, Appended::Stale)) | None) => break,
                    Ok(Some((item, result))) => self.hand_out(&sender.id, item, result),
                });
            }
            if results.len() == messages.len() {
                return Ok(results);
            }
            self.refresh().await?;
        }
        Err(AppendError::Unavailable(Unavailable))
    }

    async fn append_once(
        &self,
        sender: &LocalPeer,
        riding: Riding,
        members: Arc<Members>,
        items: Vec<Item>,
    ) -> Result<(Append, Batched), AppendError> {
        let (id, epoch, mailbox) = (sender.id.clone(), sender.epoch(), sender.mailbox());
        let Riding { acked, floor, handle } = riding;
        let batch = Append { sender: id, epoch, mailbox, acked, floor, handle, members, items };
        let timer = self.hub.metrics.append_seconds.start_timer();
        let appended = self.hub.store.append(&self.id, &self.hub.node, &batch).await;
        timer.observe_duration();
        if let Err(AppendError::Unavailable(_)) = appended {
            // Entries for local peers may have been written, and nobody hands them out.
            self.peers().iter().for_each(|peer| peer.suspect());
        }
        let appended = appended?;
        if appended.mailbox != mailbox {
            sender.doubt();
        }
        Ok((batch, appended))
    }

    fn hand_out(&self, sender: &PeerId, item: &Item, result: Appended) -> Accepted {
        match result {
            Appended::Written(deliveries) => {
                self.doubt_who_is_left_out(sender, item, &deliveries);
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

    /// A target with its socket here that is not handed the entry here: somebody took it for lost, and its mailbox holds more than it
    /// was given.
    fn doubt_who_is_left_out(&self, sender: &PeerId, item: &Item, deliveries: &[Delivery]) {
        match &item.to {
            Target::Peer(peer) if deliveries.is_empty() => {
                self.peer(peer).inspect(|peer| peer.doubt());
            }
            Target::Room if deliveries.len() + 1 < self.local_count() => {
                let handed = |peer: &LocalPeer| deliveries.iter().any(|delivery| delivery.peer == peer.id);
                let left_out = self.peers().into_iter().filter(|peer| peer.id != *sender && !handed(peer));
                left_out.for_each(|peer| peer.doubt());
            }
            _ => {}
        }
    }

    /// Hands a message straight to its targets, outside their mailboxes, if all of them are here and can take it; none if not. Only
    /// while the store is away.
    pub fn forward_straight(&self, sender: &LocalPeer, message: &Outgoing) -> Option<Accepted> {
        let targets: Vec<PeerId> = match &message.to {
            Target::Peer(peer) => vec![peer.clone()],
            Target::Room => self.members().peers.iter().filter(|peer| **peer != sender.id).cloned().collect(),
            Target::Nobody => Vec::new(),
        };
        let here = |peer: &PeerId| self.peer(peer).filter(|peer| peer.takes_straight(sender));
        let here: Vec<_> = targets.iter().map(here).collect::<Option<_>>()?;
        self.hub.metrics.straight.inc();
        let item = match self.choose(std::slice::from_ref(message)).1.pop()? {
            Ok(item) => item,
            Err(refused) => return Some(Accepted::Refused(refused)),
        };
        if item.to != Target::Nobody {
            here.iter().for_each(|peer| peer.deliver_straight(&sender.id, &item));
        }
        Some(Accepted::Written)
    }
}
