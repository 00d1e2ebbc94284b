//! Many clients that send messages in rooms and resume after each loss of a connection. Each client
//! records what it sees.
//!
//! Owns: connections, back-off, keepalive (docs/PROTOCOL.md, section 7), which messages are sent
//! and when. Must not: decide what a frame means ([`crate::protocol_client`]), or whether the
//! result is correct ([`crate::checker`]).

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    history::{ClientEvent, ClientHistory, ClientId},
    net::eventually_within,
    protocol_client::Elapsed,
    rng::SeededRng,
    swarm_client::SwarmClient,
    swarm_plan::{ClientSlot, Phase, SharedSlot, SwarmPlan},
};

/// Running clients. They end when the swarm is dropped.
pub struct Swarm {
    clients: Vec<SharedSlot>,
    phase: watch::Sender<Phase>,
    start: Instant,
    _tasks: JoinSet<()>,
}

impl Swarm {
    /// Starts all clients. They do not join at the same time.
    pub fn start(plan: &SwarmPlan) -> Self {
        let (phase, phase_rx) = watch::channel(Phase::Active);
        let (start, rng) = (Instant::now(), SeededRng::new(plan.seed));
        let plan = Arc::new(plan.clone());
        let (mut clients, mut tasks) = (Vec::new(), JoinSet::new());
        for (room, size) in plan.rooms.iter().enumerate() {
            for _ in 0..*size {
                let number = clients.len() as ClientId;
                let slot = SharedSlot::default();
                {
                    let mut slot = slot.lock();
                    slot.history.client = number;
                    slot.history.room = format!("room-{room}");
                }
                let rng = rng.fork(1_000 + u64::from(number));
                tasks.spawn(
                    SwarmClient::new(number, plan.clone(), slot.clone(), rng, phase_rx.clone(), start).run(),
                );
                clients.push(slot);
            }
        }
        Self { clients, phase, start, _tasks: tasks }
    }

    /// The time since the start, as in the histories.
    pub fn elapsed(&self) -> Elapsed {
        self.start.elapsed()
    }

    /// How many clients have received the first frame of their connection.
    pub fn connected(&self) -> usize {
        self.count_clients(|slot| slot.client.is_connected())
    }

    /// How many clients there are.
    pub fn size(&self) -> usize {
        self.clients.len()
    }

    /// How many messages have no answer.
    pub fn pending(&self) -> usize {
        self.clients.iter().map(|slot| slot.lock().client.pending()).sum()
    }

    fn count_clients(&self, matches_client: impl Fn(&ClientSlot) -> bool) -> usize {
        self.clients.iter().filter(|slot| matches_client(&slot.lock())).count()
    }

    /// How many events of all histories match.
    pub fn count_events(&self, matches_event: impl Fn(Elapsed, &ClientEvent) -> bool) -> usize {
        let count = |slot: &SharedSlot| {
            slot.lock().history.events.iter().filter(|(at, event)| matches_event(*at, event)).count()
        };
        self.clients.iter().map(count).sum()
    }

    /// Waits until every client is connected.
    ///
    /// # Panics
    /// If the clients are not connected in time.
    pub async fn wait_connected(&self, limit: Duration) {
        let all = async || (self.connected() == self.size()).then_some(());
        eventually_within(limit, "every client is connected", all).await;
    }

    /// Whether every client sees exactly the other clients of its room.
    pub fn views_agree(&self) -> bool {
        let views: Vec<_> = self
            .clients
            .iter()
            .map(|slot| {
                let slot = slot.lock();
                let is_complete =
                    slot.client.is_connected() && slot.client.roster.values().all(|member| !member.detached);
                let mut all: Vec<_> = slot.client.roster.keys().cloned().collect();
                all.extend(slot.client.peer.clone());
                all.sort();
                (slot.history.room.clone(), slot.client.peer.clone(), is_complete, all)
            })
            .collect();
        views.iter().all(|(room, _, is_complete, all)| {
            let members = views.iter().filter(|(other, ..)| other == room);
            let mut members: Vec<_> = members.filter_map(|(_, peer, ..)| peer.clone()).collect();
            members.sort();
            *is_complete && members == *all
        })
    }

    /// Ends the run: waits for the answers to all messages, lets each client send a final message,
    /// and waits until all clients have received it and all views of a room agree. At `limit` the
    /// run ends anyway, and the checker reports the differences.
    pub async fn finish(self, limit: Duration) -> Vec<ClientHistory> {
        let end = Instant::now() + limit;
        self.phase.send_replace(Phase::Quiet);
        self.wait_until(end, || self.connected() == self.size() && self.pending() == 0).await;
        self.phase.send_replace(Phase::FinalMessage);
        let complete = |slot: &ClientSlot| slot.final_messages.len() == slot.client.roster.len();
        self.wait_until(end, || {
            self.views_agree() && self.count_clients(complete) == self.size() && self.pending() == 0
        })
        .await;
        // Recorded before the clients end, because then each client sees others leave.
        let histories = self.clients.iter().map(final_history).collect();
        self.phase.send_replace(Phase::End);
        histories
    }

    async fn wait_until(&self, end: Instant, condition: impl Fn() -> bool) {
        while !condition() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn final_history(slot: &SharedSlot) -> ClientHistory {
    let mut slot = slot.lock();
    let mut history = std::mem::take(&mut slot.history);
    history.peer = if slot.client.is_connected() { slot.client.peer.clone() } else { None };
    history.roster = slot.client.roster.clone();
    history
}
