//! Measures servers alternately, and discards rounds in which the rest of the machine was busy.

use anyhow::Result;

use crate::{
    sample::{Metric, Sample},
    scenarios::{Context, Scenario, Size},
    servers::{Environment, ServerSpec},
};

/// Above this share of one core, the rest of the machine disturbs a measurement.
const BUSY_LIMIT: f64 = 0.05;

/// How often a disturbed measurement is repeated.
const REPEATS: usize = 3;

/// What was measured of one case of a scenario.
pub struct CaseResult {
    pub scenario: Scenario,
    pub case: String,
    pub servers: Vec<ServerResult>,
}

/// What was measured of one server.
pub struct ServerResult {
    pub spec: ServerSpec,
    /// With the number of the round.
    pub samples: Vec<(usize, Sample)>,
    /// How many measurements were discarded because the rest of the machine was busy.
    pub discarded: usize,
    /// Why a measurement failed.
    pub failure: Option<String>,
}

/// The median of some values, and their range.
#[derive(Clone, Copy)]
pub struct Summary {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Summary {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, low, high })
    }
}

impl ServerResult {
    /// All metrics that were measured, in order.
    pub fn metrics(&self) -> Vec<Metric> {
        let first = self.samples.first().map(|(_, sample)| &sample.values[..]).unwrap_or_default();
        first.iter().map(|(metric, _)| *metric).collect()
    }

    pub fn summary(&self, metric: Metric) -> Option<Summary> {
        Summary::of(self.samples.iter().filter_map(|(_, sample)| sample.get(metric)).collect())
    }

    /// The ratio to another server, in the rounds that both have. A machine that is slower for a while
    /// slows both in the same round.
    pub fn ratio(&self, other: &Self, metric: Metric) -> Option<Summary> {
        let value = |server: &Self, round| {
            let (_, sample) = server.samples.iter().find(|(number, _)| *number == round)?;
            sample.get(metric)
        };
        let ratios = self.samples.iter().filter_map(|(round, _)| {
            let (own, reference) = (value(self, *round)?, value(other, *round)?);
            (reference > 0.0).then_some(own / reference)
        });
        Summary::of(ratios.collect())
    }
}

/// What to measure.
pub struct Plan {
    pub scenarios: Vec<Scenario>,
    pub servers: Vec<ServerSpec>,
    pub size: Size,
    /// Keep rounds in which the rest of the machine was busy.
    pub accept_busy: bool,
}

/// Measures everything: A-B-A-B, so that all servers of a comparison see the same machine.
pub fn measure(plan: &Plan, environment: &Environment) -> Vec<CaseResult> {
    let mut results = Vec::new();
    for scenario in &plan.scenarios {
        for (index, case) in scenario.cases(&plan.size).into_iter().enumerate() {
            println!("\n{}: {case}", scenario.name());
            let supported = plan.servers.iter().filter(|spec| scenario.supports(spec));
            let mut servers: Vec<_> = supported.map(ServerResult::new).collect();
            for round in 0..plan.size.rounds_of(*scenario) {
                for server in &mut servers {
                    server.measure(*scenario, index, round, plan, environment);
                }
            }
            results.push(CaseResult { scenario: *scenario, case, servers });
        }
    }
    results
}

impl ServerResult {
    fn new(spec: &ServerSpec) -> Self {
        Self { spec: spec.clone(), samples: Vec::new(), discarded: 0, failure: None }
    }

    fn measure(
        &mut self,
        scenario: Scenario,
        case: usize,
        round: usize,
        plan: &Plan,
        environment: &Environment,
    ) {
        let spec = self.spec.clone();
        let context = Context { environment, spec: &spec, size: &plan.size };
        for _ in 0..REPEATS {
            match scenario.run(&context, case) {
                Ok(sample) => {
                    let is_quiet = sample.busy_share <= BUSY_LIMIT;
                    let is_kept = is_quiet || plan.accept_busy;
                    print_sample(&self.spec.label, round, &sample, is_quiet, is_kept);
                    if is_kept {
                        self.samples.push((round, sample));
                        return;
                    }
                    self.discarded += 1;
                }
                Err(error) => {
                    println!("  {:<24} FAILED: {error:#}", self.spec.label);
                    self.failure = Some(format!("{error:#}"));
                    return;
                }
            }
        }
    }
}

fn print_sample(label: &str, round: usize, sample: &Sample, is_quiet: bool, is_kept: bool) {
    let values: Vec<_> = sample
        .values
        .iter()
        .map(|(metric, value)| format!("{} {value:.*}", metric.title, metric.decimals))
        .collect();
    let note = match (is_quiet, is_kept) {
        (true, _) => String::new(),
        (false, kept) => {
            let percent = sample.busy_share * 100.0;
            let fate = if kept { "kept" } else { "DISCARDED" };
            format!(" · the rest of the machine used {percent:.0} % of a core: {fate}")
        }
    };
    println!("  {label:<24} {}: {}{note}", round + 1, values.join(" · "));
}

/// Whether all measurements have worked.
pub fn all_worked(results: &[CaseResult]) -> Result<()> {
    let servers = results.iter().flat_map(|result| &result.servers);
    let failed = servers.filter(|server| server.failure.is_some() || server.samples.is_empty()).count();
    anyhow::ensure!(failed == 0, "{failed} servers were not measured in some scenario; see above");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::MESSAGES_PER_SECOND;

    fn server(rates: &[(usize, f64)]) -> ServerResult {
        let mut server = ServerResult::new(&ServerSpec::parse("tokio").unwrap());
        for (round, rate) in rates {
            let mut sample = Sample::default();
            sample.push(MESSAGES_PER_SECOND, *rate);
            server.samples.push((*round, sample));
        }
        server
    }

    #[test]
    fn a_ratio_compares_the_same_rounds() {
        let (own, other) =
            (server(&[(0, 50.0), (2, 30.0), (3, 7.0)]), server(&[(0, 100.0), (1, 1.0), (2, 40.0)]));
        let Summary { median, low, high } = own.ratio(&other, MESSAGES_PER_SECOND).unwrap();
        assert_eq!((median, low, high), (0.625, 0.5, 0.75));
        assert!(server(&[(1, 5.0)]).ratio(&own, MESSAGES_PER_SECOND).is_none());
    }
}
