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
    pub samples: Vec<Sample>,
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

impl ServerResult {
    /// All metrics that were measured, in order.
    pub fn metrics(&self) -> Vec<Metric> {
        let first = self.samples.first().map(|sample| &sample.values[..]).unwrap_or_default();
        first.iter().map(|(metric, _)| *metric).collect()
    }

    pub fn summary(&self, metric: Metric) -> Option<Summary> {
        let mut values: Vec<f64> = self.samples.iter().filter_map(|sample| sample.get(metric)).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Summary { median, low, high })
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
                        self.samples.push(sample);
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
