//! Breaks running servers by a seeded script while many clients talk, and judges what the clients saw. README.md beside it says how
//! to use it.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod script;
mod strike;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use script::{Fault, Mode, Script};
use signalbox_tests::{
    backend::Backend,
    checker::{Verdict, check},
    cluster::Settings,
    fleet::Fleet,
    history::{Blow, Run},
    rng::Rng,
    swarm::{Plan, Swarm},
};

/// Short, so that faults can be longer.
const SETTINGS: Settings<'static> = &[
    ("TIMING__RESUME_WINDOW", "10s"),
    ("TIMING__LEASE", "1s"),
    ("TIMING__PING", "2s"),
    ("TIMING__DRAIN_SPREAD", "1s"),
    ("TIMING__DRAIN", "3s"),
    ("REDIS__DEADLINE", "500ms"),
];
const WINDOW: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_secs(2);
/// After the last fault: the window, for whoever was given up in it, three leases, and a busy machine.
const HEALING: Duration = Duration::from_secs(25);

/// Breaks a fleet of signaling nodes by a seeded script and checks that no client lost anything unannounced.
#[derive(Debug, Parser)]
struct Options {
    /// What the nodes keep their rooms in; several are run one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "single")]
    redis: Vec<Mode>,
    /// The script; several are run one after the other. Without it one is chosen, and said.
    #[arg(long, value_delimiter = ',')]
    seed: Vec<u64>,
    /// How long faults go on.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many clients.
    #[arg(long, default_value_t = 300)]
    peers: usize,
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Milliseconds between two messages of a client, on average.
    #[arg(long, default_value_t = 700)]
    pace: u64,
    /// The kinds of faults; all that fit the mode, where it is left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// What the nodes log, as `log.filter`.
    #[arg(long, default_value = "debug")]
    log: String,
    /// Says what the script is, and ends.
    #[arg(long)]
    plan: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.seed.is_empty() {
        options.seed.push(u64::from(std::process::id()));
    }
    let (mut passed, mut failed) = (0, 0);
    for mode in &options.redis {
        for seed in &options.seed {
            if run(&options, *mode, *seed).await { passed += 1 } else { failed += 1 }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(options: &Options, mode: Mode, seed: u64) -> bool {
    let all = Fault::value_variants();
    let wished = if options.faults.is_empty() { all } else { &options.faults };
    let faults: Vec<_> = wished.iter().copied().filter(|fault| fault.fits(mode)).collect();
    let script = Script::new(seed, Duration::from_secs(options.seconds), options.nodes, &faults);
    println!("== {mode:?}, seed {seed}, {} clients, {} s", options.peers, options.seconds);
    if options.plan {
        script.heavy.iter().chain(&script.light).for_each(|step| println!("{step}"));
        return true;
    }
    let (blows, verdict) = play(options, mode, seed, &script).await;
    report(&faults, &blows, &verdict);
    let passed = verdict.violations.is_empty();
    if !passed {
        println!(
            "again: chaos --redis {mode:?} --seed {seed} --seconds {} --peers {}",
            options.seconds, options.peers
        );
    }
    passed
}

async fn play(options: &Options, mode: Mode, seed: u64, script: &Script) -> (Vec<Blow>, Verdict) {
    let backend = match mode {
        Mode::Single => Backend::start_single().await,
        Mode::Sentinel => Backend::start_sentinel().await,
        Mode::Cluster => Backend::start_cluster().await,
    };
    let settings: Vec<_> = SETTINGS.iter().copied().chain([("LOG__FILTER", &*options.log)]).collect();
    let mut fleet = Fleet::start(backend, options.nodes, &settings).await;
    let plan = Plan {
        doors: fleet.doors(),
        secret: fleet.secret.clone(),
        rooms: Vec::new(),
        pace: Duration::from_millis(options.pace),
        to_room: 30,
        ping: PING,
        pong: PING,
        seed: Rng::new(seed).fork(4).number(),
    };
    let swarm = Swarm::start(&plan.fill(options.peers));
    swarm.all_live(Duration::from_secs(30)).await;
    let blows = strike::play(script, &mut fleet, &swarm).await;
    let histories = swarm.finish(HEALING).await;
    fleet.audit();
    let run = Run { blows, histories, window: WINDOW, lossless: false };
    let verdict = check(&run);
    (run.blows, verdict)
}

fn report(faults: &[Fault], blows: &[Blow], verdict: &Verdict) {
    let count = |fault: &Fault| {
        let name = format!("{fault:?}");
        let mut words = blows.iter().filter_map(|blow| blow.what.split([':', ' ']).next());
        (words.by_ref().filter(|word| *word == name).count(), name)
    };
    let counts: Vec<_> = faults.iter().map(count).map(|(count, name)| format!("{name} {count}")).collect();
    println!("faults: {}", counts.join(", "));
    println!("{verdict}");
}
