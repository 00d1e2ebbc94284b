//! Many peers of many rooms lose their connections at once and return.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    Context, NODES, PARALLEL_JOINS,
    rooms::{Arrivals, QUIET},
};
use crate::{
    crowd::{Crowd, Observed},
    returns::Returns,
    sample::{CPU_PER_OPERATION, EVENTS_PER_SECOND, Meter, SECONDS_UNTIL_QUIET, Sample},
    swarm::Swarm,
};

const ROOM_SIZE: usize = 50;

/// How long the rooms may take to become quiet.
const LIMIT: Duration = Duration::from_secs(60);

pub fn run(context: &Context<'_>) -> Result<Sample> {
    let server = context.spec.start(context.environment, NODES)?;
    let mut swarm = Swarm::new(server.dialect.framing())?;
    let count = context.size.presence_peers;
    let mut crowd = Crowd::new(&server, "bench", count, ROOM_SIZE);
    crowd.join_all(&mut swarm, PARALLEL_JOINS)?;
    let mut arrivals = Arrivals::new();
    wait_until_quiet(&mut swarm, &mut crowd, &mut arrivals)?;

    arrivals.presence = 0;
    let (meter, begin) = (Meter::start(&server), Instant::now());
    let half = (0..count).filter(|peer| peer % ROOM_SIZE < ROOM_SIZE / 2);
    Returns::begin(&mut swarm, &mut crowd, &mut arrivals, half).run(&mut swarm, PARALLEL_JOINS)?;
    wait_until_quiet(&mut swarm, &mut crowd, &mut arrivals)?;
    let reading = meter.stop(&server);
    let seconds = (arrivals.last_at - begin).as_secs_f64();

    let mut sample = Sample { values: Vec::new(), busy_share: reading.busy_share };
    sample.push(EVENTS_PER_SECOND, arrivals.presence as f64 / seconds);
    sample.push(CPU_PER_OPERATION, reading.cpu_seconds * 1e6 / arrivals.presence.max(1) as f64);
    sample.push(SECONDS_UNTIL_QUIET, seconds);
    Ok(sample)
}

fn wait_until_quiet(swarm: &mut Swarm, crowd: &mut Crowd<'_>, arrivals: &mut Arrivals) -> Result<()> {
    let mut observed = Observed { crowd, observer: arrivals };
    swarm.run_until(&mut observed, LIMIT, "the rooms are quiet", |observed, _| {
        observed.crowd.check_faults()?;
        Ok(observed.observer.last_at.elapsed() > QUIET)
    })
}
