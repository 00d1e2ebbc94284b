//! What a message costs with more nodes.

use anyhow::Result;

use super::{
    Context, PARALLEL_JOINS,
    forward::saturate,
    pairs::{PairTraffic, drain},
};
use crate::{crowd::Crowd, sample::Sample, swarm::Swarm};

const PAIRS: usize = 100;
const WINDOW: u64 = 8;

pub fn run(context: &Context<'_>, nodes: usize) -> Result<Sample> {
    let server = context.spec.start(context.environment, nodes)?;
    let mut swarm = Swarm::new(server.dialect.framing())?;
    let mut crowd = Crowd::new(&server, "bench", PAIRS * 2, 2);
    crowd.join_all(&mut swarm, PARALLEL_JOINS)?;
    let mut traffic = PairTraffic::new(&server, PAIRS * 2)?;
    let times = (context.size.warm_up, context.size.time);
    let sample = saturate(&mut swarm, &mut crowd, &mut traffic, &server, WINDOW, times)?;
    drain(&mut swarm, &mut crowd, &mut traffic)?;
    Ok(sample)
}
