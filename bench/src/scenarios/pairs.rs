//! Peers that send each other messages in pairs. Peer 2k and peer 2k+1 are in one room; where a
//! server has several nodes, they are at different ones.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;

use crate::{
    crowd::{Crowd, Observed, Observer},
    dialect::{Dialect, Event, Peer},
    servers::RunningServer,
    swarm::Swarm,
};

/// How long the last messages may take to arrive.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// More messages than this are never under way: the server cannot keep up with the rate.
const MOST_UNDER_WAY: u64 = 20_000;

/// What one peer has sent.
#[derive(Default)]
struct Traffic {
    sent: u64,
    delivered: u64,
    acknowledged: u64,
    /// When each message that is under way was due.
    due: VecDeque<Instant>,
}

/// Sends messages and counts their arrivals.
pub struct PairTraffic<'a> {
    dialect: &'a dyn Dialect,
    peers: Vec<Traffic>,
    /// The most messages of one peer that are under way, for a closed loop; 0 pauses.
    window: u64,
    /// The end of a closed loop with a fixed number of messages of each peer.
    limit: u64,
    /// All messages that have arrived and are acknowledged.
    pub completed: u64,
    sent: u64,
    /// The time from the moment at which a message was due to its arrival, in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl<'a> PairTraffic<'a> {
    pub fn new(server: &'a RunningServer, peers: usize) -> Result<Self> {
        Ok(Self {
            dialect: &*server.dialect,
            peers: (0..peers).map(|_| Traffic::default()).collect(),
            window: 0,
            limit: u64::MAX,
            completed: 0,
            sent: 0,
            latencies: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
        })
    }

    /// Keeps this many messages of each peer under way, until each peer has sent `limit`.
    pub fn fill(&mut self, swarm: &mut Swarm, peers: &[Peer], window: u64, limit: u64) {
        (self.window, self.limit) = (window, limit);
        for peer in 0..peers.len() {
            self.refill(swarm, peers, peer);
        }
    }

    fn refill(&mut self, swarm: &mut Swarm, peers: &[Peer], peer: usize) {
        loop {
            let traffic = &self.peers[peer];
            let under_way = traffic.sent - traffic.delivered.min(traffic.acknowledged);
            if under_way >= self.window || traffic.sent >= self.limit {
                return;
            }
            self.send(swarm, peers, peer);
        }
    }

    fn send(&mut self, swarm: &mut Swarm, peers: &[Peer], peer: usize) {
        let traffic = &mut self.peers[peer];
        traffic.sent += 1;
        self.sent += 1;
        let (number, to) = (traffic.sent, &peers[peer ^ 1].id);
        let dialect = self.dialect;
        swarm.build_text(peer, |output| dialect.write_message(to, number, output));
    }

    fn record_completion(&mut self, peer: usize, change: impl FnOnce(&mut Traffic)) {
        let traffic = &mut self.peers[peer];
        let before = traffic.delivered.min(traffic.acknowledged);
        change(traffic);
        if !self.dialect.acknowledges() {
            traffic.acknowledged = traffic.delivered;
        }
        self.completed += traffic.delivered.min(traffic.acknowledged) - before;
    }
}

impl Observer for PairTraffic<'_> {
    fn on_event(&mut self, swarm: &mut Swarm, peers: &[Peer], peer: usize, event: Event) {
        let sender = match event {
            Event::Delivered => {
                let sender = peer ^ 1;
                if let Some(due) = self.peers[sender].due.pop_front() {
                    self.latencies.saturating_record(due.elapsed().as_nanos() as u64);
                }
                self.record_completion(sender, |traffic| traffic.delivered += 1);
                sender
            }
            Event::Acknowledged(number) => {
                self.record_completion(peer, |traffic| traffic.acknowledged = number);
                peer
            }
            _ => return,
        };
        if self.window > 0 {
            self.refill(swarm, peers, sender);
        }
    }
}

/// Stops sending and waits until every message has arrived.
pub fn drain(swarm: &mut Swarm, crowd: &mut Crowd<'_>, traffic: &mut PairTraffic<'_>) -> Result<()> {
    traffic.window = 0;
    let mut observed = Observed { crowd, observer: traffic };
    swarm.run_until(&mut observed, DRAIN_LIMIT, "every message has arrived", |observed, _| {
        observed.crowd.check_faults()?;
        Ok(observed.observer.completed == observed.observer.sent)
    })
}

/// Sends at a fixed rate for this long, each message when it is due, whatever has arrived. The
/// latencies are those of this time alone.
pub fn send_at_rate(
    swarm: &mut Swarm,
    crowd: &mut Crowd<'_>,
    traffic: &mut PairTraffic<'_>,
    rate: f64,
    time: Duration,
) -> Result<()> {
    traffic.latencies.reset();
    let (begin, count) = (Instant::now(), crowd.peers.len());
    let interval = Duration::from_secs_f64(1.0 / rate);
    let total = (rate * time.as_secs_f64()) as u64;
    for number in 0..total {
        let due = begin + interval.mul_f64(number as f64);
        loop {
            let now = Instant::now();
            if now >= due {
                break;
            }
            let mut observed = Observed { crowd, observer: traffic };
            swarm.turn(Duration::ZERO, &mut observed)?;
        }
        // Neighbours in time are in different rooms.
        let peer = (number as usize * 2 + number as usize * 2 / count) % count;
        traffic.peers[peer].due.push_back(due);
        traffic.send(swarm, &crowd.peers, peer);
        swarm.flush();
        crowd.check_faults()?;
        if traffic.sent - traffic.completed > MOST_UNDER_WAY {
            bail!("the server does not keep up with {rate:.0} messages/s");
        }
    }
    drain(swarm, crowd, traffic)
}
