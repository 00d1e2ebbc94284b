//! What is done to the servers and when: chosen by a seed before the run begins, so that a seed repeats it.
//!
//! Two lanes run side by side: one for what happens to whole processes, one after the other, so that never more than one of them is
//! missing; one for what happens to connections.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use signalbox_tests::rng::Rng;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// A node is killed and started again.
    Kill,
    /// A node is suspended for longer than its lease, and goes on.
    Stop,
    /// A node is told to stop, and started again.
    Drain,
    /// A node is cut off from Redis, silently (single).
    Part,
    /// Redis is killed and comes back empty (single).
    Empty,
    /// Redis is suspended, and goes on.
    Hang,
    /// Redis refuses connections, and holds what it held (single).
    Away,
    /// The memory of Redis is full.
    Full,
    /// A master is killed when its replicas have missed some writes (sentinel, cluster).
    Failover,
    /// Slots move between masters (cluster).
    Reshard,
    /// Connections are reset.
    Cut,
    /// Connections go silent and stay open, in one direction or both.
    HalfOpen,
    /// Connections are lost, and lost again at the `resumed` that follows.
    AtResumed,
    /// Everything takes longer.
    Delay,
    /// New connections are refused.
    Refuse,
}

/// What the nodes keep their rooms in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// One Redis.
    Single,
    /// A master with replicas that Sentinels watch.
    Sentinel,
    /// A Redis Cluster.
    Cluster,
}

/// One fault of a script.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// When it begins, since the start of the script.
    pub(crate) at: Duration,
    /// What it is.
    pub(crate) fault: Fault,
    /// Whom it hits, where one node is hit.
    pub(crate) node: usize,
    /// How long it lasts.
    pub(crate) lasts: Duration,
    /// Makes the smaller choices.
    pub(crate) salt: u64,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2?} {:?} node {} for {:.2?}", self.at, self.fault, self.node, self.lasts)
    }
}

impl Fault {
    /// Whether it hits connections and not processes.
    pub(crate) fn is_light(self) -> bool {
        matches!(self, Self::Cut | Self::HalfOpen | Self::AtResumed | Self::Delay | Self::Refuse)
    }

    pub(crate) fn fits(self, mode: Mode) -> bool {
        match self {
            Self::Part | Self::Empty | Self::Away => mode == Mode::Single,
            Self::Failover => mode != Mode::Single,
            Self::Reshard => mode == Mode::Cluster,
            _ => true,
        }
    }

    /// The shortest and the longest, in milliseconds, with a lease of one second.
    fn duration(self) -> (u64, u64) {
        match self {
            Self::Kill => (200, 2_000),
            Self::Stop => (1_500, 4_000),
            Self::Part | Self::Away | Self::Hang => (800, 4_000),
            Self::Empty | Self::Full => (500, 2_500),
            Self::Delay | Self::Refuse => (500, 2_500),
            Self::AtResumed => (1_000, 2_500),
            Self::Drain | Self::Failover | Self::Reshard | Self::Cut | Self::HalfOpen => (0, 0),
        }
    }
}

/// The steps of both lanes, each in its order.
pub(crate) struct Script {
    pub(crate) heavy: Vec<Step>,
    pub(crate) light: Vec<Step>,
}

impl Script {
    /// So many seconds of these faults.
    pub(crate) fn new(seed: u64, length: Duration, nodes: usize, faults: &[Fault]) -> Self {
        let lane = |label, light| {
            let of: Vec<_> = faults.iter().copied().filter(|fault| fault.is_light() == light).collect();
            // A fault on a process takes its time to heal; the next is not to wait for that.
            let pause = if light { (300, 1_500) } else { (500, 3_000) };
            lane(Rng::new(seed).fork(label), length, nodes, &of, pause)
        };
        Self { heavy: lane(2, false), light: lane(3, true) }
    }
}

fn lane(mut rng: Rng, length: Duration, nodes: usize, faults: &[Fault], pause: (u64, u64)) -> Vec<Step> {
    let mut between = |(least, most)| rng.between(Duration::from_millis(least), Duration::from_millis(most));
    let mut steps = Vec::new();
    let mut at = between(pause);
    let mut bag: Vec<Fault> = Vec::new();
    while at < length && !faults.is_empty() {
        let lasts_of = |fault: Fault| fault.duration();
        if bag.is_empty() {
            bag = faults.to_vec();
        }
        let draw = between((0, 1 << 20)).as_millis() as usize;
        // Each kind once before any comes again.
        let fault = bag.swap_remove(draw % bag.len());
        let lasts = between(lasts_of(fault));
        let node = between((0, 1 << 20)).as_millis() as usize % nodes;
        let salt = between((0, 1 << 40)).as_millis() as u64;
        steps.push(Step { at, fault, node, lasts, salt });
        at += lasts + between(pause);
    }
    steps
}
