//! How long a message takes, at fixed rates.

use anyhow::Result;

use super::{
    Context, NODES, PARALLEL_JOINS,
    forward::saturate,
    pairs::{PairTraffic, drain, send_at_rate},
};
use crate::{
    crowd::Crowd,
    sample::{MESSAGES_PER_SECOND, Meter, OFFERED_RATE, P50, P99, P999, Sample},
    swarm::Swarm,
};

const PAIRS: usize = 100;

/// The saturation counts one message of each peer at a time: what comes at a fixed rate comes one by
/// one, and a server forwards fewer of these than of messages that arrive together.
const WINDOW: u64 = 1;

/// A rate at which messages are sent.
#[derive(Clone, Copy)]
pub enum Rate {
    Fixed(f64),
    /// A part of what the server can forward.
    Share(f64),
}

pub const CASES: [(&str, Rate); 4] = [
    ("2,000 messages/s", Rate::Fixed(2_000.0)),
    ("10 % of saturation", Rate::Share(0.1)),
    ("50 % of saturation", Rate::Share(0.5)),
    ("80 % of saturation", Rate::Share(0.8)),
];

pub fn run(context: &Context<'_>, case: usize) -> Result<Sample> {
    let server = context.spec.start(context.environment, NODES)?;
    let mut swarm = Swarm::new(server.dialect.framing())?;
    let mut crowd = Crowd::new(&server, "bench", PAIRS * 2, 2);
    crowd.join_all(&mut swarm, PARALLEL_JOINS)?;
    let mut traffic = PairTraffic::new(&server, PAIRS * 2)?;
    let times = (context.size.warm_up, context.size.time / 2);
    let saturation = saturate(&mut swarm, &mut crowd, &mut traffic, &server, WINDOW, times)?;
    drain(&mut swarm, &mut crowd, &mut traffic)?;
    let rate = match CASES[case].1 {
        Rate::Fixed(rate) => rate,
        Rate::Share(share) => saturation.get(MESSAGES_PER_SECOND).unwrap_or(0.0) * share,
    };
    let rate = rate.max(100.0);
    // The first messages at the new rate are not measured.
    send_at_rate(&mut swarm, &mut crowd, &mut traffic, rate, context.size.warm_up)?;
    let meter = Meter::start(&server);
    send_at_rate(&mut swarm, &mut crowd, &mut traffic, rate, context.size.time)?;
    let reading = meter.stop(&server);
    let mut sample = Sample { values: Vec::new(), busy_share: reading.busy_share };
    for (metric, quantile) in [(P50, 0.5), (P99, 0.99), (P999, 0.999)] {
        sample.push(metric, traffic.latencies.value_at_quantile(quantile) as f64 / 1e3);
    }
    sample.push(OFFERED_RATE, rate);
    Ok(sample)
}
