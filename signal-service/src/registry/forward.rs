//! Forwarding: a sender's messages into the mailboxes of their targets, or straight to them while the store is away.

use signalbox_shared::id::PeerId;

use super::{peer::LocalPeer, room::LocalRoom};
use signalbox_rooms::store::{Append, AppendError, Appended, Delivery, Item, Target, Unavailable};

/// How often a message to the room is tried on a fresh view before the sender is told to come again.
const FRESH_VIEWS: usize = 16;

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
        mut items: Vec<Item>,
    ) -> Result<Vec<Accepted>, AppendError> {
        let mut results = Vec::with_capacity(items.len());
        for _ in 0..FRESH_VIEWS {
            let (mailbox, members) = (sender.mailbox(), self.members());
            let Riding { acked, floor, handle } = riding;
            let (id, epoch) = (sender.id.clone(), sender.epoch());
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
            let stale = matches!(appended.results.last(), Some(Appended::Stale));
            let done = appended.results.len() - usize::from(stale);
            let done_items = batch.items.iter().zip(appended.results).take(done);
            results.extend(done_items.map(|(item, result)| self.hand_out(&sender.id, item, result)));
            if !stale {
                return Ok(results);
            }
            items = batch.items;
            items.drain(..done);
            self.refresh().await?;
        }
        Err(AppendError::Unavailable(Unavailable))
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

    /// Hands a message straight to its targets, outside their mailboxes, if all of them are here and can take it. Only while the
    /// store is away.
    pub fn forward_straight(&self, sender: &LocalPeer, item: &Item) -> bool {
        let targets: Vec<PeerId> = match &item.to {
            Target::Peer(peer) => vec![peer.clone()],
            Target::Room => self.members().peers.iter().filter(|peer| **peer != sender.id).cloned().collect(),
        };
        let here: Option<Vec<_>> =
            targets.iter().map(|peer| self.peer(peer).filter(|peer| peer.takes_straight(sender))).collect();
        if here.is_some() {
            self.hub.metrics.straight.inc();
        }
        here.as_ref().into_iter().flatten().for_each(|peer| peer.deliver_straight(&sender.id, item));
        here.is_some()
    }
}
