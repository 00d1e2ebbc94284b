//! One local peer: its inbox, its outbox, and what its connection must be woken for.
//!
//! Owns: the lane, under one lock, that orders what goes into the socket, and the peer's place in the store (epoch, lineage, mailbox).
//! Must not: wait, or know other peers. Next: `entries` is what it hears through its mailbox, `socket` all else that goes out,
//! `standing` what it is and may do.

mod entries;
mod socket;
mod standing;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use signalbox_config::Limits;
use signalbox_protocol::{
    CloseCode,
    id::{NodeId, PeerId},
};
use tokio::{net::TcpStream, sync::Notify, time::Instant};

use super::{inbox::Inbox, outbox::Outbox, untold::Untold};
use crate::standing::Standing;
use signalbox_rooms::{room::Lineage, store::Reader};

pub use standing::Powers;

/// A peer with its socket on this node. Any thread may deliver to it; its connection's task does the rest.
pub struct LocalPeer {
    /// The peer.
    pub id: PeerId,
    /// Since when it may have sent messages through this node alone: from its join on, or from its return.
    pub since: Instant,
    // A std mutex: held to order entries and to try one write that never blocks.
    lane: Mutex<Lane>,
    /// Wakes the connection's task.
    wake: Notify,
    // A std mutex: held to clone or swap the pointer.
    standing: Mutex<Arc<Standing>>,
    /// The epoch this node owns it in; 0 until it does.
    epoch: AtomicU64,
    /// The last entry that is in the socket, or further.
    written: AtomicU64,
    /// What it may do, as its client was last told. A std mutex: held to clone or swap the pointer.
    powers: Mutex<Option<Arc<Powers>>>,
    /// Whether it waits in the lobby: nothing goes out but what answers it.
    waits: AtomicBool,
}

struct Lane {
    inbox: Inbox,
    outbox: Outbox,
    untold: Untold,
    /// The highest id delivered of each sender: a message may come twice, straight and through the mailbox, or through two mailboxes.
    seen: HashMap<PeerId, u64>,
    /// Where the peer was last known to be a member.
    lineage: Lineage,
    /// When its client was last known to have all that the mailbox held.
    complete_at: Instant,
    /// Pings sent, and the number of the first one that was sent after the last entry outside the mailbox: its pong proves that the
    /// client has it.
    pings: u64,
    unproven: Option<u64>,
    closing: Option<CloseCode>,
}

/// What the connection's task finds when it is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The connection must end.
    pub closing: Option<CloseCode>,
    /// Bytes that wait for the socket.
    pub waiting: usize,
    /// The mailbox must be read.
    pub needs_reading: bool,
    /// The mailbox is being read from where the client left off.
    pub is_replaying: bool,
    /// The store should be told what the peer has, as far as this entry.
    pub should_tell: Option<u64>,
}

impl LocalPeer {
    /// A peer whose inbox only collects until [`LocalPeer::open`].
    pub fn new(id: PeerId, standing: Standing, socket: Arc<TcpStream>, limits: &Limits) -> Arc<Self> {
        let lane = Mutex::new(Lane {
            inbox: Inbox::default(),
            outbox: Outbox::new(socket, limits.outbox.0),
            untold: Untold::new(limits),
            seen: HashMap::new(),
            lineage: Lineage::default(),
            complete_at: Instant::now(),
            pings: 0,
            unproven: None,
            closing: None,
        });
        let (epoch, written) = (AtomicU64::new(0), AtomicU64::new(0));
        let (powers, waits) = (Mutex::default(), AtomicBool::new(false));
        let standing = Mutex::new(Arc::new(standing));
        let (since, wake) = (Instant::now(), Notify::new());
        Arc::new(Self { id, since, lane, wake, epoch, written, standing, powers, waits })
    }

    /// From now on its mailbox holds so many entries.
    pub fn set_backlog(&self, entries: u32) {
        self.lane().untold.set_most(entries);
        self.wake.notify_one();
    }

    fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch this node owns it in.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// This node owns it in a newer epoch.
    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// How the peer asks for its mailbox.
    pub fn reader(&self, node: &NodeId) -> Reader {
        let lineage = self.lane().lineage.clone();
        Reader { peer: self.id.clone(), node: node.clone(), epoch: self.epoch(), lineage }
    }

    /// Where the peer was last known to be a member.
    pub fn lineage(&self) -> Lineage {
        self.lane().lineage.clone()
    }

    /// The number of its mailbox, as its inbox knows it.
    pub fn mailbox(&self) -> u64 {
        self.lane().inbox.mailbox()
    }

    /// Where the peer is known to be a member.
    pub fn set_lineage(&self, lineage: &Lineage) {
        self.lane().lineage = lineage.clone();
    }

    /// What there is to do.
    pub fn condition(&self) -> Condition {
        let lane = self.lane();
        Condition {
            closing: lane.closing,
            waiting: lane.outbox.len(),
            needs_reading: lane.closing.is_none()
                && (lane.inbox.needs_reading() || self.waits() && lane.inbox.is_doubted()),
            is_replaying: lane.inbox.is_replaying(),
            should_tell: lane.untold.is_due().then(|| lane.untold.middle()).flatten(),
        }
    }

    /// Waits until there may be something to do.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The last entry that went into the outbox.
    pub fn delivered(&self) -> u64 {
        self.lane().inbox.delivered()
    }

    /// The last entry that went into the socket.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The store is being told that the peer has all up to `seq`.
    pub fn told(&self, seq: u64) {
        self.lane().untold.told(seq);
    }
}
