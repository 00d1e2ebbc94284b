//! What is measured, one file for each scenario.

mod cores;
mod forward;
mod idle;
mod joins;
mod latency;
mod nodes;
mod pairs;
mod presence;
mod rooms;
mod storm;
mod tokens;
mod upkeep;

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{
    sample::{
        CPU_PER_DELIVERY, CPU_PER_JOIN, CPU_PER_OFFER, CPU_PER_OPERATION, EVENTS_PER_SECOND, IDLE_CPU,
        JOINS_PER_SECOND, MEMORY_IDLE, MESSAGES_PER_SECOND, Metric, P50, P99, RATE_OF_ONE, RATE_OF_TWO,
        REDIS_CPU, SECONDS_ALL, Sample, TOKENS_PER_SECOND,
    },
    servers::{Environment, ServerSpec},
};

/// How much is measured.
#[derive(Clone)]
pub struct Size {
    /// How often each server is measured.
    pub rounds: usize,
    /// How long one measurement of a rate takes.
    pub time: Duration,
    /// How long the load runs before it is measured.
    pub warm_up: Duration,
    /// The loads of `forward`: pairs, and messages in flight of each peer.
    pub loads: Vec<(usize, u64)>,
    /// How many of the rates of `latency`.
    pub latency_rates: usize,
    /// How many peers join.
    pub joins: usize,
    /// How many peers idle, and for how long.
    pub idle_peers: usize,
    pub idle_time: Duration,
    /// How many pairs send the bursts of `cores`.
    pub burst_pairs: usize,
    /// The sizes of the rooms.
    pub rooms: Vec<usize>,
    /// How many peers lose their node at once.
    pub storm_peers: usize,
    /// How many peers are in the rooms of which half lose their connections.
    pub presence_peers: usize,
    /// How many nodes have nothing to do.
    pub upkeep_nodes: Vec<usize>,
}

impl Size {
    /// For figures that are published.
    pub fn full() -> Self {
        Self {
            rounds: 5,
            time: Duration::from_secs(4),
            warm_up: Duration::from_secs(1),
            loads: vec![(100, 8), (400, 1)],
            latency_rates: latency::CASES.len(),
            joins: 4_000,
            idle_peers: 8_000,
            idle_time: Duration::from_secs(10),
            burst_pairs: 1_000,
            rooms: vec![50, 100, 200, 1_000],
            storm_peers: 5_000,
            presence_peers: 2_000,
            upkeep_nodes: upkeep::NODES.to_vec(),
        }
    }

    /// For daily use.
    pub fn quick() -> Self {
        Self {
            rounds: 2,
            time: Duration::from_secs(1),
            warm_up: Duration::from_millis(500),
            latency_rates: 1,
            joins: 2_000,
            idle_peers: 2_000,
            idle_time: Duration::from_secs(2),
            rooms: vec![100],
            storm_peers: 2_000,
            presence_peers: 500,
            ..Self::full()
        }
    }

    /// How often each server is measured in this scenario. Memory and idle nodes vary little.
    pub fn rounds_of(&self, scenario: Scenario) -> usize {
        match scenario {
            Scenario::Idle => self.rounds.div_ceil(2),
            Scenario::Upkeep => 1,
            _ => self.rounds,
        }
    }

    /// Only shows that everything works; the figures mean nothing.
    pub fn smoke() -> Self {
        Self {
            rounds: 1,
            time: Duration::from_millis(200),
            warm_up: Duration::from_millis(100),
            loads: vec![(4, 2)],
            latency_rates: 2,
            joins: 40,
            idle_peers: 40,
            idle_time: Duration::from_millis(200),
            burst_pairs: 20,
            rooms: vec![10],
            storm_peers: 40,
            presence_peers: 50,
            upkeep_nodes: vec![2],
        }
    }
}

/// What a measurement needs.
pub struct Context<'a> {
    pub environment: &'a Environment,
    pub spec: &'a ServerSpec,
    pub size: &'a Size,
}

/// One of the things that are measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Forward,
    Latency,
    Joins,
    Tokens,
    Idle,
    Rooms,
    Presence,
    Storm,
    Nodes,
    Upkeep,
    Cores,
}

impl Scenario {
    pub const ALL: [Self; 11] = [
        Self::Forward,
        Self::Latency,
        Self::Joins,
        Self::Tokens,
        Self::Idle,
        Self::Rooms,
        Self::Presence,
        Self::Storm,
        Self::Nodes,
        Self::Upkeep,
        Self::Cores,
    ];

    /// What `--quick` measures.
    pub const QUICK: [Self; 4] = [Self::Forward, Self::Latency, Self::Joins, Self::Idle];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Latency => "latency",
            Self::Joins => "joins",
            Self::Tokens => "tokens",
            Self::Idle => "idle",
            Self::Rooms => "rooms",
            Self::Presence => "presence",
            Self::Storm => "storm",
            Self::Nodes => "nodes",
            Self::Upkeep => "upkeep",
            Self::Cores => "cores",
        }
    }

    pub fn parse(name: &str) -> Result<Self> {
        if let Some(scenario) = Self::ALL.into_iter().find(|scenario| scenario.name() == name) {
            return Ok(scenario);
        }
        let known: Vec<_> = Self::ALL.iter().map(|scenario| scenario.name()).collect();
        bail!("there is no scenario {name}; the scenarios are: all, {}", known.join(", "))
    }

    /// What is measured, for the report.
    pub fn about(self) -> &'static str {
        match self {
            Self::Forward => {
                "Messages of 1.5 KB between pairs of peers, as many as the server can forward. A peer sends \
                 the next message when one of its messages has arrived and, where the server acknowledges, \
                 is acknowledged."
            }
            Self::Latency => {
                "Time from the moment at which a message was due to its arrival, at fixed rates: 2,000 \
                 messages/s, and 10 %, 50 % and 80 % of what the same server could forward just before. A \
                 late message counts from the moment at which it was due."
            }
            Self::Joins => {
                "Connect, upgrade, check of the credential, first frame of the server; 64 at a time, two peers \
                 in each room."
            }
            Self::Tokens => {
                "Tokens that the auth service issues by `POST /auth/token` with an API key, one request at a time \
                 on each of 64 connections."
            }
            Self::Idle => {
                "Memory (proportional set size) and CPU time of the server for each peer that has joined and \
                 sends nothing, two peers in each room; then memory after each peer has sent 20 messages."
            }
            Self::Rooms => {
                "One large room. First all peers join, 64 at a time, until the last of them has heard of the \
                 others. Then each peer sends an offer to each peer that joined later, at most 20,000 offers \
                 and at most eight times as many under way as there are peers. Then one peer sends to the whole \
                 room, four messages under way."
            }
            Self::Presence => {
                "Rooms of 50. Half of the peers of each room lose their connections at once and return, 64 at a \
                 time: Signalbox resumes them, the others let them join again. An event is one notice to one \
                 peer that another peer has gone or come."
            }
            Self::Storm => {
                "All peers are at one of two nodes, two in each room. That node is killed, and all peers \
                 reconnect to the other node at once, 500 connections at a time; a refused peer tries again \
                 after 200 ms. Signalbox resumes them, with their mailboxes; the others let them join again, \
                 and what was under way is lost."
            }
            Self::Nodes => {
                "As `forward` with 100 pairs and 8 messages in flight, with one, two and three nodes. The two \
                 peers of a pair are at different nodes. All nodes and Redis share the CPUs of the servers, so \
                 with one CPU the cost of a message counts here, not the rate."
            }
            Self::Upkeep => {
                "What nodes cost that have nothing to do but to be nodes, with two idle peers each: they renew \
                 leases, ask for deadlines, read access rules, and check Redis and their topics."
            }
            Self::Cores => {
                "How much more two worker threads forward than one, both on all CPUs of the machine. Bursts of \
                 messages of 1.5 KB between pairs of peers: the load writes a burst while the server is stopped, \
                 and reads when the server sleeps again. So the load needs no CPU meanwhile, and only this time \
                 counts, to 0.5 ms of about 40. Trust `2 workers ÷ 1` of one round if the server was busy for \
                 nearly 100 % with one worker and nearly 200 % with two. Otherwise the machine did something \
                 else, and the CPU times of a message say what two CPUs could gain at most: 2 × the cost with \
                 one worker ÷ the cost with two. The rates are not those of `forward`: a burst is spread over \
                 more sockets, and lets a server join more in one call."
            }
        }
    }

    /// The cases of the scenario, each with a table of its own.
    pub fn cases(self, size: &Size) -> Vec<String> {
        match self {
            Self::Forward => size
                .loads
                .iter()
                .map(|(pairs, window)| format!("{pairs} pairs × {window} in flight"))
                .collect(),
            Self::Latency => {
                latency::CASES.iter().take(size.latency_rates).map(|(name, _)| (*name).to_owned()).collect()
            }
            Self::Tokens => vec!["64 connections".to_owned()],
            Self::Joins => vec![format!("{} peers", size.joins)],
            Self::Idle => vec![format!("{} peers", size.idle_peers)],
            Self::Rooms => size.rooms.iter().map(|peers| format!("{peers} peers")).collect(),
            Self::Presence => vec![format!("{} peers", size.presence_peers)],
            Self::Storm => vec![format!("{} peers", size.storm_peers)],
            Self::Cores => cores::WINDOWS
                .iter()
                .map(|window| format!("{} pairs × {window} in a burst", size.burst_pairs))
                .collect(),
            Self::Nodes => ["1 node", "2 nodes", "3 nodes"].map(str::to_owned).into(),
            Self::Upkeep => size.upkeep_nodes.iter().map(|nodes| format!("{nodes} nodes")).collect(),
        }
    }

    /// The metrics that are drawn.
    pub fn plotted(self) -> &'static [Metric] {
        match self {
            Self::Forward | Self::Nodes => &[MESSAGES_PER_SECOND, CPU_PER_OPERATION],
            Self::Latency => &[P50, P99],
            Self::Joins => &[JOINS_PER_SECOND, CPU_PER_OPERATION],
            Self::Tokens => &[TOKENS_PER_SECOND],
            Self::Idle => &[MEMORY_IDLE, IDLE_CPU],
            Self::Rooms => &[CPU_PER_JOIN, CPU_PER_OFFER, CPU_PER_DELIVERY],
            Self::Presence => &[EVENTS_PER_SECOND],
            Self::Storm => &[SECONDS_ALL],
            Self::Upkeep => &[REDIS_CPU],
            Self::Cores => &[RATE_OF_ONE, RATE_OF_TWO],
        }
    }

    /// Whether the server can take part.
    pub fn supports(self, spec: &ServerSpec) -> bool {
        match self {
            Self::Forward | Self::Latency if spec.name == "redis-script" => true,
            _ if spec.name == "redis-script" => false,
            Self::Joins => true,
            Self::Tokens => spec.is_signalbox(),
            // The algorithm of the token changes nothing after the join.
            _ if spec.name.ends_with("-eddsa") => false,
            Self::Forward | Self::Latency | Self::Idle | Self::Rooms => true,
            Self::Presence => !spec.is_floor() && spec.name != "peerjs",
            Self::Upkeep => spec.name == "signalbox-redis",
            Self::Storm | Self::Nodes => spec.has_several_nodes(),
            Self::Cores => spec.name == "signalbox",
        }
    }

    /// Measures one case once.
    pub fn run(self, context: &Context<'_>, case: usize) -> Result<Sample> {
        match self {
            Self::Forward => forward::run(context, context.size.loads[case]),
            Self::Latency => latency::run(context, case),
            Self::Joins => joins::run(context),
            Self::Tokens => tokens::run(context),
            Self::Idle => idle::run(context),
            Self::Rooms => rooms::run(context, context.size.rooms[case]),
            Self::Presence => presence::run(context),
            Self::Storm => storm::run(context),
            Self::Nodes => nodes::run(context, case + 1),
            Self::Upkeep => upkeep::run(context, context.size.upkeep_nodes[case]),
            Self::Cores => cores::run(context, cores::WINDOWS[case]),
        }
    }
}

/// How many nodes a server has, where it can have several.
pub const NODES: usize = 2;

/// How many peers join at a time.
pub const PARALLEL_JOINS: usize = 64;
