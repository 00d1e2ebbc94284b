//! What nodes cost that have nothing to do: leases, partitions, access rules, checks of Redis.

use std::time::Duration;

use anyhow::Result;

use super::{Context, PARALLEL_JOINS};
use crate::{
    crowd::Crowd,
    sample::{MEMORY_REDIS, Meter, NODE_CPU, REDIS_CPU, Sample},
    swarm::Swarm,
};

/// The numbers of nodes.
pub const NODES: [usize; 4] = [1, 50, 100, 200];

/// Peers of each node, so that there are rooms with peers at two nodes.
const PEERS_PER_NODE: usize = 2;

/// The nodes are measured this long after the last join: longer than the grace period of three
/// leases, in which they do less.
const SETTLE: Duration = Duration::from_secs(8);

pub fn run(context: &Context<'_>, nodes: usize) -> Result<Sample> {
    let server = context.spec.start(context.environment, nodes)?;
    let mut swarm = Swarm::new(server.dialect.framing())?;
    let mut crowd = Crowd::new(&server, "bench", nodes * PEERS_PER_NODE, 2);
    crowd.join_all(&mut swarm, PARALLEL_JOINS)?;
    std::thread::sleep(SETTLE.min(context.size.idle_time));
    let meter = Meter::start(&server);
    std::thread::sleep(context.size.idle_time);
    let reading = meter.stop(&server);
    let mut sample = Sample { values: Vec::new(), busy_share: reading.busy_share };
    let redis = reading.redis_seconds / reading.seconds;
    sample.push(REDIS_CPU, redis * 1e3);
    sample.push(NODE_CPU, (reading.cpu_seconds / reading.seconds - redis) * 1e3 / nodes as f64);
    sample.push(MEMORY_REDIS, server.processes.memory_of("redis") as f64 / 1024.0 / 1024.0);
    Ok(sample)
}
