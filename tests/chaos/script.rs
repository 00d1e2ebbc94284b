//! The plan of a run: which faults are injected, and when. A seed chooses the plan before the run
//! begins, so the same seed gives the same plan.
//!
//! Two lanes run at the same time. One lane injects faults into processes, one after the other, so
//! that at most one node is down. The other lane injects faults into connections.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use signalbox_tests::rng::SeededRng;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// A node is killed and started again.
    Kill,
    /// A node is paused for longer than its lease, and continues.
    Stop,
    /// A node is stopped with SIGTERM, and started again.
    Drain,
    /// The connection of one node to Redis drops all data and is not closed (single).
    Isolate,
    /// Redis is killed and starts again empty (single).
    Empty,
    /// Redis is paused, and continues.
    Hang,
    /// Redis refuses connections and keeps its data (single).
    Unreachable,
    /// The memory of Redis is full.
    Full,
    /// A master is killed while its replicas lack some writes (sentinel, cluster).
    Failover,
    /// Slots move between masters (cluster).
    Reshard,
    /// Connections are reset.
    Cut,
    /// Connections drop data and stay open, in one direction or both.
    HalfOpen,
    /// Connections are cut, and cut again at the `resumed` that follows.
    AtResumed,
    /// Data is delayed.
    Delay,
    /// New connections are reset.
    Refuse,
}

/// The kind of Redis that keeps the rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RedisMode {
    /// One Redis server.
    Single,
    /// A master with replicas, watched by Sentinels.
    Sentinel,
    /// A Redis Cluster.
    Cluster,
}

/// One fault of a script.
#[derive(Debug, Clone)]
pub(crate) struct FaultStep {
    /// When the fault begins, since the start of the script.
    pub(crate) start: Duration,
    /// The kind of fault.
    pub(crate) fault: Fault,
    /// The index of the node, for a fault of one node.
    pub(crate) node: usize,
    /// How long the fault lasts.
    pub(crate) duration: Duration,
    /// The seed of the random choices within the fault.
    pub(crate) seed: u64,
}

impl fmt::Display for FaultStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2?} {:?} node {} for {:.2?}", self.start, self.fault, self.node, self.duration)
    }
}

impl Fault {
    /// Whether the fault affects connections and not processes.
    pub(crate) fn hits_connections(self) -> bool {
        matches!(self, Self::Cut | Self::HalfOpen | Self::AtResumed | Self::Delay | Self::Refuse)
    }

    pub(crate) fn applies_to(self, mode: RedisMode) -> bool {
        match self {
            Self::Isolate | Self::Empty | Self::Unreachable => mode == RedisMode::Single,
            Self::Failover => mode != RedisMode::Single,
            Self::Reshard => mode == RedisMode::Cluster,
            _ => true,
        }
    }

    /// The shortest and the longest duration in milliseconds, for a lease of one second.
    fn duration(self) -> (u64, u64) {
        match self {
            Self::Kill => (200, 2_000),
            Self::Stop => (1_500, 4_000),
            Self::Isolate | Self::Unreachable | Self::Hang => (800, 4_000),
            Self::Empty | Self::Full => (500, 2_500),
            Self::Delay | Self::Refuse => (500, 2_500),
            Self::AtResumed => (1_000, 2_500),
            Self::Drain | Self::Failover | Self::Reshard | Self::Cut | Self::HalfOpen => (0, 0),
        }
    }
}

/// The faults of both lanes, in order.
pub(crate) struct FaultScript {
    pub(crate) process_faults: Vec<FaultStep>,
    pub(crate) connection_faults: Vec<FaultStep>,
}

impl FaultScript {
    /// Plans faults for the time `length`.
    pub(crate) fn new(seed: u64, length: Duration, nodes: usize, faults: &[Fault]) -> Self {
        let lane = |rng_label, hits_connections| {
            let lane_faults: Vec<_> =
                faults.iter().copied().filter(|fault| fault.hits_connections() == hits_connections).collect();
            // A fault of a process needs time to heal, and the next fault does not wait for that.
            let pause_ms = if hits_connections { (300, 1_500) } else { (500, 3_000) };
            plan_lane(SeededRng::new(seed).fork(rng_label), length, nodes, &lane_faults, pause_ms)
        };
        Self { process_faults: lane(2, false), connection_faults: lane(3, true) }
    }
}

fn plan_lane(
    mut rng: SeededRng,
    length: Duration,
    nodes: usize,
    faults: &[Fault],
    pause_ms: (u64, u64),
) -> Vec<FaultStep> {
    let mut between = |(min, max)| rng.between(Duration::from_millis(min), Duration::from_millis(max));
    let mut steps = Vec::new();
    let mut start = between(pause_ms);
    let mut remaining: Vec<Fault> = Vec::new();
    while start < length && !faults.is_empty() {
        let duration_of = |fault: Fault| fault.duration();
        if remaining.is_empty() {
            remaining = faults.to_vec();
        }
        let draw = between((0, 1 << 20)).as_millis() as usize;
        // Each kind is used once before a kind repeats.
        let fault = remaining.swap_remove(draw % remaining.len());
        let duration = between(duration_of(fault));
        let node = between((0, 1 << 20)).as_millis() as usize % nodes;
        let seed = between((0, 1 << 40)).as_millis() as u64;
        steps.push(FaultStep { start, fault, node, duration, seed });
        start += duration + between(pause_ms);
    }
    steps
}
