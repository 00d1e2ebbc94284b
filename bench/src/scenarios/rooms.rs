//! One large room: joins, the offers of a mesh, broadcasts.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Context, NODES, PARALLEL_JOINS};
use crate::{
    crowd::{Crowd, Observed, Observer},
    dialect::{Event, Peer},
    sample::{
        CPU_PER_DELIVERY, CPU_PER_JOIN, CPU_PER_OFFER, DELIVERIES_PER_SECOND, Meter, OFFERS_PER_SECOND,
        SECONDS_UNTIL_QUIET, Sample,
    },
    servers::RunningServer,
    swarm::Swarm,
};

/// A room is quiet when nothing has happened for this long.
pub const QUIET: Duration = Duration::from_millis(500);

/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The most offers of a mesh.
const MOST_OFFERS: usize = 20_000;

/// How many broadcasts are under way.
const BROADCASTS: u64 = 4;

/// Counts what arrives.
pub struct Arrivals {
    pub delivered: u64,
    pub presence: u64,
    pub last_at: Instant,
}

impl Arrivals {
    pub fn new() -> Self {
        Self { delivered: 0, presence: 0, last_at: Instant::now() }
    }
}

impl Observer for Arrivals {
    fn on_event(&mut self, _swarm: &mut Swarm, _peers: &[Peer], _peer: usize, event: Event) {
        match event {
            Event::Delivered => self.delivered += 1,
            Event::PresenceChanged => self.presence += 1,
            Event::Joined => {}
            _ => return,
        }
        self.last_at = Instant::now();
    }
}

pub fn run(context: &Context<'_>, count: usize) -> Result<Sample> {
    let server = context.spec.start(context.environment, NODES)?;
    let mut swarm = Swarm::new(server.dialect.framing())?;
    let mut crowd = Crowd::new(&server, "bench", count, count);
    let mut sample = Sample::default();
    join(&mut swarm, &mut crowd, &server, &mut sample)?;
    if !context.spec.is_floor() {
        send_offers(&mut swarm, &mut crowd, &server, &mut sample)?;
    }
    broadcast(&mut swarm, &mut crowd, &server, context.size.time, &mut sample)?;
    Ok(sample)
}

fn join(swarm: &mut Swarm, crowd: &mut Crowd<'_>, server: &RunningServer, sample: &mut Sample) -> Result<()> {
    let paths = crowd.prepare();
    let mut arrivals = Arrivals::new();
    let (meter, begin) = (Meter::start(server), Instant::now());
    crowd.join(swarm, &paths, PARALLEL_JOINS, &mut arrivals)?;
    let mut observed = Observed { crowd, observer: &mut arrivals };
    swarm.run_until(&mut observed, LIMIT, "the room is quiet", |observed, _| {
        observed.crowd.check_faults()?;
        Ok(observed.observer.last_at.elapsed() > QUIET)
    })?;
    let reading = meter.stop(server);
    sample.busy_share = reading.busy_share;
    sample.push(SECONDS_UNTIL_QUIET, (arrivals.last_at - begin).as_secs_f64());
    sample.push(CPU_PER_JOIN, reading.cpu_seconds * 1e6 / paths.len() as f64);
    Ok(())
}

fn send_offers(
    swarm: &mut Swarm,
    crowd: &mut Crowd<'_>,
    server: &RunningServer,
    sample: &mut Sample,
) -> Result<()> {
    let (count, dialect) = (crowd.peers.len(), &*server.dialect);
    // The nearest neighbours first, so that every peer sends and receives the whole time.
    let pairs =
        (1..count).flat_map(|distance| (0..count - distance).map(move |from| (from, from + distance)));
    let pairs: Vec<_> = pairs.take(MOST_OFFERS).collect();
    let mut numbers = vec![0; count];
    let (mut sent, most_under_way) = (0, count as u64 * 8);
    let mut arrivals = Arrivals::new();
    let meter = Meter::start(server);
    let mut observed = Observed { crowd, observer: &mut arrivals };
    swarm.run_until(&mut observed, LIMIT, "every offer has arrived", |observed, swarm| {
        observed.crowd.check_faults()?;
        while sent < pairs.len() && sent as u64 - observed.observer.delivered < most_under_way {
            let (from, to) = pairs[sent];
            numbers[from] += 1;
            let to = &observed.crowd.peers[to].id;
            swarm.build_text(from, |output| dialect.write_message(to, numbers[from], output));
            sent += 1;
        }
        Ok(observed.observer.delivered == pairs.len() as u64)
    })?;
    let reading = meter.stop(server);
    sample.busy_share = sample.busy_share.max(reading.busy_share);
    sample.push(OFFERS_PER_SECOND, pairs.len() as f64 / reading.seconds);
    sample.push(CPU_PER_OFFER, reading.cpu_seconds * 1e6 / pairs.len() as f64);
    Ok(())
}

fn broadcast(
    swarm: &mut Swarm,
    crowd: &mut Crowd<'_>,
    server: &RunningServer,
    time: Duration,
    sample: &mut Sample,
) -> Result<()> {
    let (targets, dialect) = (crowd.peers.len() as u64 - 1, &*server.dialect);
    let sender = crowd.peers.len() - 1;
    let room = crowd.peers[sender].room.clone();
    if !dialect.write_broadcast(&room, 1, &mut Vec::new()) {
        return Ok(());
    }
    // The sender has sent no offer: it was the last to join.
    let mut sent = 0;
    let mut arrivals = Arrivals::new();
    let (meter, end) = (Meter::start(server), Instant::now() + time);
    let mut observed = Observed { crowd, observer: &mut arrivals };
    swarm.run_until(&mut observed, LIMIT, "every broadcast has arrived", |observed, swarm| {
        observed.crowd.check_faults()?;
        let is_sending = Instant::now() < end;
        while is_sending && sent < observed.observer.delivered / targets + BROADCASTS {
            sent += 1;
            swarm.build_text(sender, |output| {
                dialect.write_broadcast(&room, sent, output);
            });
        }
        Ok(!is_sending && observed.observer.delivered == sent * targets)
    })?;
    let reading = meter.stop(server);
    let deliveries = (sent * targets) as f64;
    sample.busy_share = sample.busy_share.max(reading.busy_share);
    sample.push(DELIVERIES_PER_SECOND, deliveries / reading.seconds);
    sample.push(CPU_PER_DELIVERY, reading.cpu_seconds * 1e6 / deliveries.max(1.0));
    Ok(())
}
