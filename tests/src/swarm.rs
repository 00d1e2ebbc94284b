//! Many clients that talk in rooms and come back whatever happens to their connections; what each saw is recorded.
//!
//! Owns: connections, back-off, keepalive (docs/PROTOCOL.md, section 7), what is said and when. Must not: decide what a frame means
//! ([`crate::client`]) or whether all was right ([`crate::checker`]).

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    client::{At, Client},
    history::{Event, History, Who},
    net::eventually_within,
    rng::Rng,
    swarm_member::Member,
};

/// What a swarm does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where clients connect: an address for each node.
    pub doors: Vec<SocketAddr>,
    /// What tokens are signed with.
    pub secret: String,
    /// The number of clients in each room.
    pub rooms: Vec<usize>,
    /// Between two messages of one client, on average.
    pub pace: Duration,
    /// So many messages in a hundred go to the room.
    pub to_room: u64,
    /// The servers' ping interval.
    pub ping: Duration,
    /// How long a `pong` may take.
    pub pong: Duration,
    /// Chooses targets, pauses, nodes.
    pub seed: u64,
}

impl Plan {
    /// Rooms of two to six, as many as so many clients fill.
    #[must_use]
    pub fn fill(mut self, clients: usize) -> Self {
        let mut rng = Rng::new(self.seed).fork(1);
        let mut left = clients;
        self.rooms.clear();
        while left > 0 {
            let size = if left <= 7 { left.min(6) } else { 2 + rng.below(5) };
            // No client is alone.
            let size = if left - size == 1 { size - 1 } else { size };
            self.rooms.push(size);
            left -= size;
        }
        self
    }
}

/// What all clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Say something now and then.
    Talk,
    /// Say nothing new.
    Silence,
    /// Say one last thing to the room.
    Fence,
    /// End.
    End,
}

/// What is known of one client while it runs.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) client: Client,
    pub(crate) history: History,
    pub(crate) fences: BTreeSet<Who>,
}

/// A shared [`Desk`].
#[derive(Debug, Clone, Default)]
// A std mutex: held for a few instructions, never across an await.
pub(crate) struct Shared(Arc<Mutex<Desk>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Running clients. They end when it is dropped.
pub struct Swarm {
    desks: Vec<Shared>,
    phase: watch::Sender<Phase>,
    start: Instant,
    _tasks: JoinSet<()>,
}

impl Swarm {
    /// Starts all clients; they join at their own pace.
    pub fn start(plan: &Plan) -> Self {
        let (phase, told) = watch::channel(Phase::Talk);
        let (start, rng) = (Instant::now(), Rng::new(plan.seed));
        let plan = Arc::new(plan.clone());
        let (mut desks, mut tasks) = (Vec::new(), JoinSet::new());
        for (room, size) in plan.rooms.iter().enumerate() {
            for _ in 0..*size {
                let who = desks.len() as Who;
                let desk = Shared::default();
                {
                    let mut desk = desk.lock();
                    desk.history.who = who;
                    desk.history.room = format!("room-{room}");
                }
                let rng = rng.fork(1_000 + u64::from(who));
                tasks.spawn(Member::new(who, plan.clone(), desk.clone(), rng, told.clone(), start).run());
                desks.push(desk);
            }
        }
        Self { desks, phase, start, _tasks: tasks }
    }

    /// Time since the start, as the records have it.
    pub fn now(&self) -> At {
        self.start.elapsed()
    }

    /// Clients whose connection has its first frame.
    pub fn live(&self) -> usize {
        self.count(|desk| desk.client.is_live())
    }

    /// How many clients there are.
    pub fn size(&self) -> usize {
        self.desks.len()
    }

    /// Messages without an answer.
    pub fn pending(&self) -> usize {
        self.desks.iter().map(|desk| desk.lock().client.pending()).sum()
    }

    fn count(&self, which: impl Fn(&Desk) -> bool) -> usize {
        self.desks.iter().filter(|desk| which(&desk.lock())).count()
    }

    /// How many events of all records fit.
    pub fn events(&self, fits: impl Fn(At, &Event) -> bool) -> usize {
        let count =
            |desk: &Shared| desk.lock().history.events.iter().filter(|(at, event)| fits(*at, event)).count();
        self.desks.iter().map(count).sum()
    }

    /// Waits until every client is connected.
    ///
    /// # Panics
    /// When the time is over.
    pub async fn all_live(&self, limit: Duration) {
        let all = async || (self.live() == self.size()).then_some(());
        eventually_within(limit, "every client is connected", all).await;
    }

    /// Whether every client sees exactly the others of its room.
    pub fn views_agree(&self) -> bool {
        let views: Vec<_> = self
            .desks
            .iter()
            .map(|desk| {
                let desk = desk.lock();
                let whole =
                    desk.client.is_live() && desk.client.roster.values().all(|member| !member.detached);
                let mut all: Vec<_> = desk.client.roster.keys().cloned().collect();
                all.extend(desk.client.peer.clone());
                all.sort();
                (desk.history.room.clone(), desk.client.peer.clone(), whole, all)
            })
            .collect();
        views.iter().all(|(room, _, whole, all)| {
            let members = views.iter().filter(|(other, ..)| other == room);
            let mut members: Vec<_> = members.filter_map(|(_, peer, ..)| peer.clone()).collect();
            members.sort();
            *whole && members == *all
        })
    }

    /// Waits until everything that was said is answered, has each client say a last word, waits until all have heard all last
    /// words and see the same rooms, and ends. What is not so in time is for the checker to name.
    pub async fn finish(self, limit: Duration) -> Vec<History> {
        let end = Instant::now() + limit;
        self.phase.send_replace(Phase::Silence);
        self.until(end, || self.live() == self.size() && self.pending() == 0).await;
        self.phase.send_replace(Phase::Fence);
        let complete = |desk: &Desk| desk.fences.len() == desk.client.roster.len();
        self.until(end, || self.views_agree() && self.count(complete) == self.size() && self.pending() == 0)
            .await;
        // Before they end: then each sees others go.
        let histories = self.desks.iter().map(record).collect();
        self.phase.send_replace(Phase::End);
        histories
    }

    async fn until(&self, end: Instant, holds: impl Fn() -> bool) {
        while !holds() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn record(desk: &Shared) -> History {
    let mut desk = desk.lock();
    let mut history = std::mem::take(&mut desk.history);
    history.peer = if desk.client.is_live() { desk.client.peer.clone() } else { None };
    history.roster = desk.client.roster.clone();
    history
}
