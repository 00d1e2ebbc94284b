//! The plan of a swarm, and the state that a swarm shares with each of its clients.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    history::{ClientHistory, ClientId},
    protocol_client::ProtocolClient,
    rng::SeededRng,
};

/// What the clients of a swarm do.
#[derive(Debug, Clone)]
pub struct SwarmPlan {
    /// The addresses to which clients connect, one for each node.
    pub addresses: Vec<SocketAddr>,
    /// The secret that signs tokens.
    pub secret: String,
    /// The number of clients in each room.
    pub rooms: Vec<usize>,
    /// The average time between two messages of one client.
    pub message_interval: Duration,
    /// The share of messages to the whole room, in percent.
    pub room_percent: u64,
    /// The ping interval of the servers.
    pub ping_interval: Duration,
    /// How long a `pong` may take.
    pub pong_limit: Duration,
    /// The seed of all random choices.
    pub seed: u64,
}

impl SwarmPlan {
    /// Fills rooms of two to six with this number of clients.
    #[must_use]
    pub fn fill(mut self, clients: usize) -> Self {
        let mut rng = SeededRng::new(self.seed).fork(1);
        let mut left = clients;
        self.rooms.clear();
        while left > 0 {
            let size = if left <= 7 { left.min(6) } else { 2 + rng.below(5) };
            // No client may be alone.
            let size = if left - size == 1 { size - 1 } else { size };
            self.rooms.push(size);
            left -= size;
        }
        self
    }
}

/// What the clients do at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Send messages.
    Active,
    /// Send no new message.
    Quiet,
    /// Send one final message to the room.
    FinalMessage,
    /// End.
    End,
}

/// The shared state of one running client.
#[derive(Debug, Default)]
pub(crate) struct ClientSlot {
    pub(crate) client: ProtocolClient,
    pub(crate) history: ClientHistory,
    pub(crate) final_messages: BTreeSet<ClientId>,
}

/// A shared [`ClientSlot`].
#[derive(Debug, Clone, Default)]
// A std mutex: held for a few instructions, never across an await.
pub(crate) struct SharedSlot(Arc<Mutex<ClientSlot>>);

impl SharedSlot {
    pub(crate) fn lock(&self) -> MutexGuard<'_, ClientSlot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
