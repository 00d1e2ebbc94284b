//! One local peer: its inbox, its outbox, and what its connection must be woken for.
//!
//! Owns: the lane, under one lock, that orders what goes into the socket, and the peer's place in the store (epoch, lineage, mailbox).
//! Must not: wait, or know other peers. Next: `entries` is what it hears through its mailbox, `socket` all else that goes out,
//! `standing` what it is and may do.

mod delivery;
mod peer_permissions;
mod socket;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use signalbox_config::LimitSettings;
use signalbox_protocol::{
    CloseCode,
    id::{NodeId, PeerId},
};
use tokio::{net::TcpStream, sync::Notify, time::Instant};

use super::{inbox::PeerInbox, outbox::Outbox, unacked::UnackedEntries};
use crate::connection_subject::ConnectionSubject;
use signalbox_rooms::{room::ReplicationId, store::MailboxReader};

pub use peer_permissions::PeerPermissions;

/// A peer with its socket on this node. Any thread may deliver to it; its connection's task does the rest.
pub struct LocalPeer {
    /// The peer.
    pub id: PeerId,
    /// Since when it may have sent messages through this node alone: from its join on, or from its return.
    pub connected_at: Instant,
    // A std mutex: held to order entries and to try one write that never blocks.
    delivery: Mutex<DeliveryState>,
    /// Wakes the connection's task.
    task_wake: Notify,
    // A std mutex: held to clone or swap the pointer.
    subject: Mutex<Arc<ConnectionSubject>>,
    /// The epoch this node owns it in; 0 until it does.
    epoch: AtomicU64,
    /// The last entry that is in the socket, or further.
    written_seq: AtomicU64,
    /// What it may do, as its client was last told. A std mutex: held to clone or swap the pointer.
    permissions: Mutex<Option<Arc<PeerPermissions>>>,
    /// Whether it waits in the lobby: nothing goes out but what answers it.
    is_in_lobby: AtomicBool,
}

struct DeliveryState {
    inbox: PeerInbox,
    outbox: Outbox,
    unacked: UnackedEntries,
    /// The highest id delivered of each sender: a message may come twice, straight and through the mailbox, or through two mailboxes.
    last_ids: HashMap<PeerId, u64>,
    /// Where the peer was last known to be a member.
    replication_id: ReplicationId,
    /// When its client was last known to have all that the mailbox held.
    last_complete_at: Instant,
    /// Pings sent, and the number of the first one that was sent after the last entry outside the mailbox: its pong proves that the
    /// client has it.
    sent_pings: u64,
    awaited_pong: Option<u64>,
    close_code: Option<CloseCode>,
}

/// What the connection's task finds when it is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingWork {
    /// The connection must end.
    pub close_code: Option<CloseCode>,
    /// Bytes that wait for the socket.
    pub outbox_bytes: usize,
    /// The mailbox must be read.
    pub needs_mailbox_read: bool,
    /// The mailbox is being read from where the client left off.
    pub is_replaying: bool,
    /// The store should be told what the peer has, as far as this entry.
    pub ack_up_to: Option<u64>,
}

impl LocalPeer {
    /// A peer whose inbox only collects until [`LocalPeer::open`].
    pub fn new(
        id: PeerId,
        standing: ConnectionSubject,
        socket: Arc<TcpStream>,
        limits: &LimitSettings,
    ) -> Arc<Self> {
        let lane = Mutex::new(DeliveryState {
            inbox: PeerInbox::default(),
            outbox: Outbox::new(socket, limits.outbox.0),
            unacked: UnackedEntries::new(limits),
            last_ids: HashMap::new(),
            replication_id: ReplicationId::default(),
            last_complete_at: Instant::now(),
            sent_pings: 0,
            awaited_pong: None,
            close_code: None,
        });
        let (epoch, written) = (AtomicU64::new(0), AtomicU64::new(0));
        let (powers, waits) = (Mutex::default(), AtomicBool::new(false));
        let standing = Mutex::new(Arc::new(standing));
        let (since, wake) = (Instant::now(), Notify::new());
        Arc::new(Self {
            id,
            connected_at: since,
            delivery: lane,
            task_wake: wake,
            epoch,
            written_seq: written,
            subject: standing,
            permissions: powers,
            is_in_lobby: waits,
        })
    }

    /// From now on its mailbox holds so many entries.
    pub fn set_backlog(&self, entries: u32) {
        self.lock_delivery().unacked.set_max_entries(entries);
        self.task_wake.notify_one();
    }

    fn lock_delivery(&self) -> MutexGuard<'_, DeliveryState> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub fn mailbox_reader(&self, node: &NodeId) -> MailboxReader {
        let lineage = self.lock_delivery().replication_id.clone();
        MailboxReader {
            peer: self.id.clone(),
            node: node.clone(),
            epoch: self.epoch(),
            replication_id: lineage,
        }
    }

    /// Where the peer was last known to be a member.
    pub fn replication_id(&self) -> ReplicationId {
        self.lock_delivery().replication_id.clone()
    }

    /// The number of its mailbox, as its inbox knows it.
    pub fn mailbox_version(&self) -> u64 {
        self.lock_delivery().inbox.mailbox_version()
    }

    /// Where the peer is known to be a member.
    pub fn set_replication_id(&self, lineage: &ReplicationId) {
        self.lock_delivery().replication_id = lineage.clone();
    }

    /// What there is to do.
    pub fn pending_work(&self) -> PendingWork {
        let lane = self.lock_delivery();
        PendingWork {
            close_code: lane.close_code,
            outbox_bytes: lane.outbox.pending_bytes(),
            needs_mailbox_read: lane.close_code.is_none()
                && (lane.inbox.needs_read() || self.is_in_lobby() && lane.inbox.may_have_missed()),
            is_replaying: lane.inbox.is_replaying(),
            ack_up_to: lane.unacked.is_ack_due().then(|| lane.unacked.middle_seq()).flatten(),
        }
    }

    /// Waits until there may be something to do.
    pub async fn wait_for_work(&self) {
        self.task_wake.notified().await;
    }

    /// The last entry that went into the outbox.
    pub fn delivered_seq(&self) -> u64 {
        self.lock_delivery().inbox.delivered_seq()
    }

    /// The last entry that went into the socket.
    pub fn written_seq(&self) -> u64 {
        self.written_seq.load(Ordering::Relaxed)
    }

    /// The store is being told that the peer has all up to `seq`.
    pub fn mark_acknowledged(&self, seq: u64) {
        self.lock_delivery().unacked.acknowledge_up_to(seq);
    }
}
