//! The benchmark of Signalbox beside other servers and beside floors. `run.sh` builds and installs
//! everything and then starts this program; README.md says what is measured.
//!
//! - [`servers`]: how each server is started, and its messages ([`dialect`]);
//! - [`returns`] and [`crowd`] over [`swarm`] over [`framing`] and
//!   [`websocket`]: the simulated peers;
//! - [`scenarios`]: what is measured, with [`sample`] and [`processes`];
//! - [`rounds`]: in which order, and what is discarded; [`report`] and [`plot`]: the result;
//! - [`instructions`]: a program of its own beside all that, the counts that CI compares.

mod crowd;
mod dialect;
mod framing;
mod instructions;
mod plot;
mod processes;
mod report;
mod returns;
mod rounds;
mod sample;
mod scenarios;
mod servers;
mod swarm;
mod websocket;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;

use crate::{
    rounds::Plan,
    scenarios::{Scenario, Size},
    servers::{Environment, SERVERS, ServerSpec},
};

/// Measures servers. `bench/run.sh` passes the paths.
#[derive(Parser)]
struct Options {
    /// A scenario, or `all`.
    #[arg(default_value = "all")]
    scenario: String,
    /// The servers: a name, or NAME=BINARY for another build. Without names, all of them.
    servers: Vec<String>,
    /// Fewer and shorter rounds, for daily use.
    #[arg(long)]
    quick: bool,
    /// Only show that everything works.
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// Print the names of the scenarios and of the servers.
    #[arg(long)]
    list: bool,
    /// How often each server is measured.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long one measurement of a rate takes, in seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Keep rounds in which the rest of the machine was busy.
    #[arg(long)]
    accept_busy: bool,
    /// The CPUs of the servers, a list of taskset.
    #[arg(long, default_value = "0")]
    server_cpus: String,
    #[arg(long)]
    signalbox: PathBuf,
    #[arg(long)]
    floor: PathBuf,
    #[arg(long)]
    matchbox: PathBuf,
    /// The folder with `node_modules` and the programs that use them.
    #[arg(long)]
    npm: PathBuf,
    /// Where the report is written.
    #[arg(long)]
    report: PathBuf,
    /// Facts for the head of the report, one line each.
    #[arg(long)]
    fact: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let result = match std::env::args_os().nth(1) {
        Some(first) if first == "instructions" => {
            instructions::run(&instructions::Options::parse_from(arguments))
        }
        _ => run(&Options::parse()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        print_names();
        return Ok(ExitCode::SUCCESS);
    }
    let mut size = match (options.quick, options.smoke) {
        (true, _) => Size::quick(),
        (_, true) => Size::smoke(),
        _ => Size::full(),
    };
    size.rounds = options.rounds.unwrap_or(size.rounds);
    size.time = options.seconds.map_or(size.time, Duration::from_secs_f64);
    let scenarios = match options.scenario.as_str() {
        "all" if options.quick => Scenario::QUICK.to_vec(),
        "all" => Scenario::ALL.to_vec(),
        name => vec![Scenario::parse(name)?],
    };
    let names: Vec<_> = if options.servers.is_empty() {
        SERVERS.iter().map(|(name, _)| (*name).to_owned()).collect()
    } else {
        options.servers.clone()
    };
    let servers = names.iter().map(|name| ServerSpec::parse(name)).collect::<Result<_>>()?;
    let environment = Environment {
        // The servers run in other folders.
        signalbox: std::path::absolute(&options.signalbox)?,
        floor: std::path::absolute(&options.floor)?,
        matchbox: std::path::absolute(&options.matchbox)?,
        npm: std::path::absolute(&options.npm)?,
        server_cpus: options.server_cpus.clone(),
    };
    let plan = Plan { scenarios, servers, size, accept_busy: options.accept_busy || options.smoke };
    let results = rounds::measure(&plan, &environment);
    report::write(&options.report, &options.fact, &results)?;
    println!("\n{}", options.report.display());
    rounds::all_worked(&results)?;
    Ok(ExitCode::SUCCESS)
}

fn print_names() {
    let scenarios = Scenario::ALL.map(|scenario| format!("{:<22} {}", scenario.name(), scenario.about()));
    let servers = SERVERS.map(|(name, about)| format!("{name:<22} {about}"));
    println!("scenarios:\n{}\n\nservers:\n{}", scenarios.join("\n"), servers.join("\n"));
}
