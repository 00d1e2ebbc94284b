//! A node dies, and all of its peers come to the other node at once.

use anyhow::{Result, bail};

use super::{Context, NODES, PARALLEL_JOINS};
use crate::{
    crowd::Crowd,
    returns::Returns,
    sample::{CPU_PER_PEER, Meter, RECOVERED, RETRIES, SECONDS_ALL, SECONDS_P50, SECONDS_P99, Sample},
    swarm::Swarm,
};

/// How many connections are being made at a time.
const PARALLEL: usize = 500;

pub fn run(context: &Context<'_>) -> Result<Sample> {
    let mut server = context.spec.start(context.environment, NODES)?;
    let addresses = server.addresses.clone();
    let [first, second] = addresses[..] else { bail!("the storm needs two nodes") };
    // All peers join at the first node.
    server.addresses = vec![first];
    let mut swarm = Swarm::new(server.dialect.framing())?;
    let count = context.size.storm_peers;
    let mut crowd = Crowd::new(&server, "bench", count, 2);
    crowd.join_all(&mut swarm, PARALLEL_JOINS)?;
    let peers = std::mem::take(&mut crowd.peers);

    server.processes.kill("node-0")?;
    server.addresses = vec![second];
    let mut crowd = Crowd::new(&server, "bench", count, 2);
    crowd.peers = peers;
    let meter = Meter::start(&server);
    let mut observer = ();
    let mut returns = Returns::begin(&mut swarm, &mut crowd, &mut observer, 0..count);
    returns.run(&mut swarm, PARALLEL)?;
    let (times, retries) = (std::mem::take(&mut returns.times), returns.retries);
    let reading = meter.stop(&server);
    let recovered = crowd.peers.iter().filter(|peer| peer.is_recovered).count();

    let mut sample = Sample { values: Vec::new(), busy_share: reading.busy_share };
    // The times are in the order in which the peers came back.
    for (metric, share) in [(SECONDS_P50, 0.5), (SECONDS_P99, 0.99), (SECONDS_ALL, 1.0)] {
        let index = (times.len() as f64 * share) as usize;
        sample.push(metric, times[index.clamp(1, times.len()) - 1]);
    }
    sample.push(CPU_PER_PEER, reading.cpu_seconds * 1e6 / count as f64);
    sample.push(RECOVERED, recovered as f64 * 100.0 / count as f64);
    sample.push(RETRIES, retries as f64);
    Ok(sample)
}
