//! How many messages a server can forward.

use std::time::Duration;

use anyhow::Result;

use super::{
    Context, NODES, PARALLEL_JOINS,
    pairs::{PairTraffic, drain},
};
use crate::{
    crowd::{Crowd, Observed},
    sample::{MESSAGES_PER_SECOND, Meter, Sample},
    servers::RunningServer,
    swarm::Swarm,
};

pub fn run(context: &Context<'_>, (pairs, window): (usize, u64)) -> Result<Sample> {
    let server = context.spec.start(context.environment, NODES)?;
    let mut swarm = Swarm::new(server.dialect.framing())?;
    let mut crowd = Crowd::new(&server, "bench", pairs * 2, 2);
    crowd.join_all(&mut swarm, PARALLEL_JOINS)?;
    let mut traffic = PairTraffic::new(&server, pairs * 2)?;
    let times = (context.size.warm_up, context.size.time);
    let sample = saturate(&mut swarm, &mut crowd, &mut traffic, &server, window, times)?;
    drain(&mut swarm, &mut crowd, &mut traffic)?;
    Ok(sample)
}

/// Keeps `window` messages of each peer under way, and measures.
pub fn saturate(
    swarm: &mut Swarm,
    crowd: &mut Crowd<'_>,
    traffic: &mut PairTraffic<'_>,
    server: &RunningServer,
    window: u64,
    (warm_up, time): (Duration, Duration),
) -> Result<Sample> {
    traffic.fill(swarm, &crowd.peers, window, u64::MAX);
    let mut observed = Observed { crowd, observer: traffic };
    swarm.spin_for(&mut observed, warm_up)?;
    let (meter, before) = (Meter::start(server), observed.observer.completed);
    swarm.spin_for(&mut observed, time)?;
    let completed = observed.observer.completed - before;
    let sample = meter.stop(server).sample(completed, MESSAGES_PER_SECOND);
    crowd.check_faults()?;
    Ok(sample)
}
