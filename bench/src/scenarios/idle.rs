//! What a peer costs that has joined and sends nothing.

use std::time::Duration;

use anyhow::Result;

use super::{
    Context, NODES, PARALLEL_JOINS,
    pairs::{PairTraffic, drain},
};
use crate::{
    crowd::{Crowd, Observed},
    sample::{IDLE_CPU, MEMORY_AFTER_TRAFFIC, MEMORY_EMPTY, MEMORY_IDLE, Meter, REDIS_MEMORY_IDLE, Sample},
    swarm::Swarm,
};

/// Memory is taken this long after the last message.
const SETTLE: Duration = Duration::from_secs(2);

/// How many messages each peer sends.
const MESSAGES: u64 = 20;

/// How many peers send at the same time.
const SENDERS: usize = 1_000;

/// Few peers before the empty server is measured: the first ones make it allocate what it shares.
const FIRST_PEERS: usize = 20;

pub fn run(context: &Context<'_>) -> Result<Sample> {
    let (size, count) = (context.size, context.size.idle_peers);
    let server = context.spec.start(context.environment, NODES)?;
    let mut swarm = Swarm::new(server.dialect.framing())?;
    let mut first = Crowd::new(&server, "first", FIRST_PEERS, 2);
    first.join_all(&mut swarm, PARALLEL_JOINS)?;
    for peer in 0..FIRST_PEERS {
        swarm.disconnect(peer);
    }
    let settle = SETTLE.min(size.idle_time);
    std::thread::sleep(settle);
    let empty = server.processes.memory() as f64;
    let empty_redis = server.processes.memory_of("redis");
    let empty_meter = Meter::start(&server);
    std::thread::sleep(size.idle_time / 2);
    let empty_reading = empty_meter.stop(&server);

    let mut crowd = Crowd::new(&server, "bench", count, 2);
    crowd.join_all(&mut swarm, PARALLEL_JOINS)?;
    let mut traffic = PairTraffic::new(&server, count)?;
    idle(&mut swarm, &mut crowd, &mut traffic, settle)?;
    let idle_memory = server.processes.memory() as f64;
    let idle_redis = server.processes.memory_of("redis");
    let meter = Meter::start(&server);
    idle(&mut swarm, &mut crowd, &mut traffic, size.idle_time)?;
    let reading = meter.stop(&server);

    for start in (0..count).step_by(SENDERS) {
        let end = count.min(start + SENDERS);
        traffic.fill(&mut swarm, &crowd.peers[..end], 1, MESSAGES);
        drain_all(&mut swarm, &mut crowd, &mut traffic, end as u64 * MESSAGES)?;
    }
    idle(&mut swarm, &mut crowd, &mut traffic, settle)?;
    let later_memory = server.processes.memory() as f64;

    let per_peer = |bytes: f64| (bytes - empty) / 1024.0 / count as f64;
    let empty_rate = empty_reading.cpu_seconds / empty_reading.seconds;
    let rate = reading.cpu_seconds / reading.seconds - empty_rate;
    let mut sample = Sample { values: Vec::new(), busy_share: reading.busy_share };
    sample.push(MEMORY_IDLE, per_peer(idle_memory));
    sample.push(MEMORY_AFTER_TRAFFIC, per_peer(later_memory));
    sample.push(IDLE_CPU, (rate * 1e6 / count as f64).max(0.0));
    sample.push(MEMORY_EMPTY, empty / 1024.0 / 1024.0);
    if empty_redis > 0 {
        sample.push(REDIS_MEMORY_IDLE, (idle_redis as f64 - empty_redis as f64) / 1024.0 / count as f64);
    }
    Ok(sample)
}

/// Answers pings and heartbeats for this long, and sleeps meanwhile.
fn idle(
    swarm: &mut Swarm,
    crowd: &mut Crowd<'_>,
    traffic: &mut PairTraffic<'_>,
    time: Duration,
) -> Result<()> {
    let end = std::time::Instant::now() + time;
    let mut observed = Observed { crowd, observer: traffic };
    while std::time::Instant::now() < end {
        swarm.turn(Duration::from_millis(20), &mut observed)?;
        observed.crowd.check_faults()?;
    }
    Ok(())
}

/// Waits until the messages of all peers have arrived.
fn drain_all(
    swarm: &mut Swarm,
    crowd: &mut Crowd<'_>,
    traffic: &mut PairTraffic<'_>,
    messages: u64,
) -> Result<()> {
    let mut observed = Observed { crowd, observer: traffic };
    swarm.run_until(
        &mut observed,
        Duration::from_secs(120),
        "every message has arrived",
        |observed, _| {
            observed.crowd.check_faults()?;
            Ok(observed.observer.completed == messages)
        },
    )?;
    drain(swarm, crowd, traffic)
}
