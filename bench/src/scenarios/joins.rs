//! How many peers can join in a second.

use anyhow::Result;
use hdrhistogram::Histogram;

use super::{Context, NODES, PARALLEL_JOINS};
use crate::{
    crowd::Crowd,
    sample::{JOINS_PER_SECOND, Meter, P50, P99, Sample},
    swarm::Swarm,
};

pub fn run(context: &Context<'_>) -> Result<Sample> {
    let server = context.spec.start(context.environment, NODES)?;
    let (mut swarm, warm_up) = (Swarm::new(server.dialect.framing())?, context.size.joins / 8);
    let mut crowd = Crowd::new(&server, "bench", warm_up + context.size.joins, 2);
    let mut paths = crowd.prepare();
    let measured = paths.split_off(warm_up);
    crowd.join(&mut swarm, &paths, PARALLEL_JOINS, &mut ())?;
    let meter = Meter::start(&server);
    crowd.join(&mut swarm, &measured, PARALLEL_JOINS, &mut ())?;
    let mut sample = meter.stop(&server).sample(measured.len() as u64, JOINS_PER_SECOND);
    let mut latencies: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    for (begin, end) in &crowd.times[warm_up..] {
        if let (Some(begin), Some(end)) = (begin, end) {
            latencies.saturating_record((*end - *begin).as_nanos() as u64);
        }
    }
    for (metric, quantile) in [(P50, 0.5), (P99, 0.99)] {
        sample.push(metric, latencies.value_at_quantile(quantile) as f64 / 1e3);
    }
    Ok(sample)
}
