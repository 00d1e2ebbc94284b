//! Forwarding: a sender's messages into the mailboxes of their targets, or straight to them while the store is away.

use signalbox_shared::id::PeerId;

use super::{peer::LocalPeer, room::LocalRoom};
use crate::store::{Append, AppendError, Appended, Item, Page, Target, Unavailable};

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
                self.peers().iter().for_each(|peer| peer.doubt());
            }
            let appended = appended?;
            if appended.mailbox != mailbox {
                sender.doubt();
            }
            let stale = matches!(appended.results.last(), Some(Appended::Stale));
            let done = appended.results.len() - usize::from(stale);
            results.extend(appended.results.into_iter().take(done).map(|result| self.hand_out(result)));
            if !stale {
                return Ok(results);
            }
            items = batch.items;
            items.drain(..done);
            self.refresh().await?;
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

    /// Hands a message straight to its targets, outside their mailboxes, if all of them are here. Only while the store is away.
    pub fn forward_straight(&self, sender: &PeerId, item: &Item) -> bool {
        let targets: Vec<PeerId> = match &item.to {
            Target::Peer(peer) => vec![peer.clone()],
            Target::Room => self.members().peers.iter().filter(|peer| *peer != sender).cloned().collect(),
        };
        let here: Option<Vec<_>> = targets.iter().map(|peer| self.peer(peer)).collect();
        here.is_some_and(|peers| peers.iter().all(|peer| peer.deliver_straight(sender, item)))
    }
}

/// Whether a page is the next one for a peer.
pub fn is_next(peer: &LocalPeer, page: &Page) -> bool {
    page.mailbox == peer.mailbox() && page.continues(peer.delivered())
}
