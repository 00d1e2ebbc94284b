//! What one measurement yields, and the meter that takes CPU time and the state of the machine
//! beside it.

use std::time::Instant;

use crate::{
    processes::{CpuTime, MachineWatch, load_ticks, ticks_to_seconds},
    servers::RunningServer,
};

/// What a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The head of its column.
    pub title: &'static str,
    /// How many digits after the point.
    pub decimals: usize,
    /// Whether a greater value is better.
    pub is_gain: bool,
}

impl Metric {
    /// A value with its digits, and with commas between thousands.
    pub fn format(self, value: f64) -> String {
        thousands(&format!("{value:.*}", self.decimals))
    }
}

/// A metric of which more is better.
const fn gain(title: &'static str, decimals: usize) -> Metric {
    Metric { title, decimals, is_gain: true }
}

/// A metric of which less is better.
const fn cost(title: &'static str, decimals: usize) -> Metric {
    Metric { title, decimals, is_gain: false }
}

pub const MESSAGES_PER_SECOND: Metric = gain("messages/s", 0);
pub const TOKENS_PER_SECOND: Metric = gain("tokens/s", 0);
pub const JOINS_PER_SECOND: Metric = gain("joins/s", 0);
pub const CPU_PER_OPERATION: Metric = cost("server CPU µs each", 2);
pub const REDIS_PER_OPERATION: Metric = cost("of it Redis µs", 2);
pub const SERVER_BUSY: Metric = gain("server busy %", 0);
pub const LOAD_BUSY: Metric = gain("load busy %", 0);
pub const OFFERED_RATE: Metric = gain("offered/s", 0);
pub const P50: Metric = cost("p50 µs", 0);
pub const P99: Metric = cost("p99 µs", 0);
pub const P999: Metric = cost("p99.9 µs", 0);
pub const DELIVERIES_PER_SECOND: Metric = gain("deliveries/s", 0);
pub const OFFERS_PER_SECOND: Metric = gain("offers/s", 0);
pub const EVENTS_PER_SECOND: Metric = gain("events/s", 0);
pub const CPU_PER_JOIN: Metric = cost("CPU µs per join", 1);
pub const CPU_PER_OFFER: Metric = cost("CPU µs per offer", 2);
pub const CPU_PER_DELIVERY: Metric = cost("CPU µs per delivery", 2);
pub const RATE_OF_ONE: Metric = gain("messages/s, 1 worker", 0);
pub const RATE_OF_TWO: Metric = gain("messages/s, 2 workers", 0);
pub const RATIO: Metric = gain("ratio", 2);
pub const GAIN: Metric = gain("2 workers ÷ 1", 2);
pub const CPU_OF_ONE: Metric = cost("CPU µs each, 1 worker", 2);
pub const CPU_OF_TWO: Metric = cost("CPU µs each, 2 workers", 2);
pub const BUSY_OF_ONE: Metric = gain("busy %, 1 worker", 0);
pub const BUSY_OF_TWO: Metric = gain("busy %, 2 workers", 0);
pub const CPU_PER_PEER: Metric = cost("CPU µs per peer", 1);
pub const SECONDS_UNTIL_QUIET: Metric = cost("seconds until the last event", 2);
pub const SECONDS_P50: Metric = cost("seconds until half are back", 2);
pub const SECONDS_P99: Metric = cost("until 99 %", 2);
pub const SECONDS_ALL: Metric = cost("until all", 2);
pub const RECOVERED: Metric = gain("without loss %", 1);
pub const RETRIES: Metric = cost("refused and repeated", 0);
pub const MEMORY_IDLE: Metric = cost("KiB per idle peer", 2);
pub const MEMORY_AFTER_TRAFFIC: Metric = cost("KiB per peer after traffic", 2);
pub const MEMORY_EMPTY: Metric = cost("MiB without peers", 1);
pub const REDIS_MEMORY_IDLE: Metric = cost("of it KiB of Redis", 2);
pub const REDIS_CPU: Metric = cost("Redis CPU ms/s", 2);
pub const NODE_CPU: Metric = cost("CPU ms/s per node", 2);
pub const MEMORY_REDIS: Metric = cost("MiB of Redis", 1);
pub const IDLE_CPU: Metric = cost("CPU µs/s per idle peer", 3);

/// The numbers of one measurement.
#[derive(Clone, Default)]
pub struct Sample {
    pub values: Vec<(Metric, f64)>,
    /// The share of one core that the rest of the machine used meanwhile.
    pub busy_share: f64,
}

impl Sample {
    pub fn push(&mut self, metric: Metric, value: f64) {
        self.values.push((metric, value));
    }

    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.values.iter().find(|(other, _)| *other == metric).map(|(_, value)| *value)
    }
}

/// Takes the CPU time of a server over some time.
pub struct Meter {
    begin: Instant,
    cpu: CpuTime,
    load: f64,
    watch: MachineWatch,
}

/// What a [`Meter`] has measured.
pub struct Reading {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub redis_seconds: f64,
    load_seconds: f64,
    pub busy_share: f64,
}

impl Meter {
    pub fn start(server: &RunningServer) -> Self {
        Self {
            watch: MachineWatch::start(&server.processes),
            load: load_ticks(),
            cpu: server.processes.cpu_time(),
            begin: Instant::now(),
        }
    }

    pub fn stop(self, server: &RunningServer) -> Reading {
        let seconds = self.begin.elapsed().as_secs_f64();
        let cpu = server.processes.cpu_time();
        Reading {
            seconds,
            cpu_seconds: cpu.since(&self.cpu),
            redis_seconds: cpu.since_of("redis", &self.cpu),
            load_seconds: ticks_to_seconds(load_ticks() - self.load),
            busy_share: self.watch.busy_share(&server.processes),
        }
    }
}

impl Reading {
    /// A sample with the rate of these operations and what each of them costs.
    pub fn sample(&self, operations: u64, rate: Metric) -> Sample {
        let mut sample = Sample { values: Vec::new(), busy_share: self.busy_share };
        let count = operations.max(1) as f64;
        sample.push(rate, operations as f64 / self.seconds);
        sample.push(CPU_PER_OPERATION, self.cpu_seconds * 1e6 / count);
        if self.redis_seconds > 0.0 {
            sample.push(REDIS_PER_OPERATION, self.redis_seconds * 1e6 / count);
        }
        sample.push(SERVER_BUSY, self.cpu_seconds * 100.0 / self.seconds);
        sample.push(LOAD_BUSY, self.load_seconds * 100.0 / self.seconds);
        sample
    }
}

/// Separates thousands by a comma.
fn thousands(number: &str) -> String {
    let (whole, rest) =
        number.split_once('.').map_or((number, String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text + &rest
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn thousands_have_commas() {
        for (number, text) in [("7", "7"), ("999", "999"), ("1000", "1,000"), ("1234567.25", "1,234,567.25")]
        {
            assert_eq!(thousands(number), text);
        }
    }
}
