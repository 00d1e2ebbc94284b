//! How much more two workers forward than one, on a machine whose load has no core of its own.
//!
//! The load writes messages into the sockets while the server is stopped, and reads what comes
//! when the server sleeps again. In between all CPUs are the server's, and only this time counts.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    Context, PARALLEL_JOINS,
    pairs::{PairTraffic, drain},
};
use crate::{
    crowd::Crowd,
    sample::{
        BUSY_OF_ONE, BUSY_OF_TWO, CPU_OF_ONE, CPU_OF_TWO, GAIN, Meter, RATE_OF_ONE, RATE_OF_TWO, Sample,
    },
    servers::RunningServer,
    swarm::Swarm,
};

/// The messages of each peer in one burst.
pub const WINDOWS: [u64; 2] = [8, 1];

/// How long a burst may take.
const BURST_LIMIT: Duration = Duration::from_secs(20);

/// Between two looks at the threads of the server. A look takes about 20 µs of a CPU.
const INTERVAL: Duration = Duration::from_micros(500);

pub fn run(context: &Context<'_>, window: u64) -> Result<Sample> {
    let (one, first_share) = measure(context, 1, window)?;
    let (two, second_share) = measure(context, 2, window)?;
    let mut sample = Sample { values: Vec::new(), busy_share: first_share.max(second_share) };
    sample.push(RATE_OF_TWO, two.rate());
    sample.push(RATE_OF_ONE, one.rate());
    sample.push(GAIN, two.rate() / one.rate());
    sample.push(CPU_OF_TWO, two.cpu_of_message());
    sample.push(CPU_OF_ONE, one.cpu_of_message());
    sample.push(BUSY_OF_TWO, two.busy_percent());
    sample.push(BUSY_OF_ONE, one.busy_percent());
    Ok(sample)
}

/// Also returns how busy the rest of the machine was.
fn measure(context: &Context<'_>, workers: usize, window: u64) -> Result<(Bursts, f64)> {
    let server = context.spec.start_workers(context.environment, workers)?;
    let mut swarm = Swarm::new(server.dialect.framing())?;
    let peers = context.size.burst_pairs * 2;
    let mut crowd = Crowd::new(&server, "bench", peers, 2);
    crowd.join_all(&mut swarm, PARALLEL_JOINS)?;
    let mut traffic = PairTraffic::new(&server, peers)?;
    // The first burst fills caches and buffers, and does not count.
    let (mut bursts, mut sent, mut meter) = (Bursts::default(), 0, None);
    while bursts.time < context.size.time {
        server.processes.wait_until_asleep(BURST_LIMIT, INTERVAL)?;
        server.processes.stop()?;
        sent += window;
        traffic.fill(&mut swarm, &crowd.peers, window, sent);
        swarm.flush();
        let mut burst = Bursts { messages: window * peers as u64, ..Bursts::default() };
        burst.run(&server)?;
        drain(&mut swarm, &mut crowd, &mut traffic)?;
        match &meter {
            Some(_) => bursts.add(&burst),
            None => meter = Some(Meter::start(&server)),
        }
    }
    Ok((bursts, meter.map_or(0.0, |meter| meter.stop(&server).busy_share)))
}

/// What bursts took.
#[derive(Default)]
struct Bursts {
    messages: u64,
    time: Duration,
    cpu_seconds: f64,
}

impl Bursts {
    /// Lets the server forward what lies in its sockets.
    fn run(&mut self, server: &RunningServer) -> Result<()> {
        let cpu = server.processes.cpu_time();
        let begin = Instant::now();
        server.processes.resume()?;
        self.time = server.processes.wait_until_asleep(BURST_LIMIT, INTERVAL)? - begin;
        self.cpu_seconds = server.processes.cpu_time().since(&cpu);
        Ok(())
    }

    fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.time += other.time;
        self.cpu_seconds += other.cpu_seconds;
    }

    fn rate(&self) -> f64 {
        self.messages as f64 / self.time.as_secs_f64()
    }

    fn cpu_of_message(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.messages as f64
    }

    fn busy_percent(&self) -> f64 {
        self.cpu_seconds * 100.0 / self.time.as_secs_f64()
    }
}
