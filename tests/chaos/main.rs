//! Injects the faults of a seeded script into running servers while many clients send messages, and
//! checks what the clients saw. README.md in this folder describes its use.

#![expect(clippy::print_stdout, reason = "a command-line tool prints its result")]

mod injector;
mod script;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use script::{Fault, FaultScript, RedisMode};
use signalbox_tests::{
    checker::{RunReport, check},
    cluster::Settings,
    fleet::Fleet,
    fleet_store::FleetStore,
    history::{InjectedFault, RunRecord},
    rng::SeededRng,
    swarm::Swarm,
    swarm_plan::SwarmPlan,
};

/// Short, so that faults can last longer.
const NODE_SETTINGS: Settings<'static> = &[
    ("TIMING__RESUME_WINDOW", "10s"),
    ("TIMING__LEASE", "1s"),
    ("TIMING__PING", "2s"),
    ("TIMING__DRAIN_SPREAD", "1s"),
    ("TIMING__DRAIN", "3s"),
    ("REDIS__DEADLINE", "500ms"),
];
const RESUME_WINDOW: Duration = Duration::from_secs(10);
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// The time after the last fault: the window for expired peers, three leases, and a busy machine.
const HEALING_LIMIT: Duration = Duration::from_secs(25);

/// Injects faults into a fleet of signaling nodes and checks that no client has a silent loss.
#[derive(Debug, Parser)]
struct ChaosOptions {
    /// The kind of Redis; several kinds run one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "single")]
    redis: Vec<RedisMode>,
    /// The seed of the script; several seeds run one after the other. The default is the process
    /// id.
    #[arg(long, value_delimiter = ',')]
    seed: Vec<u64>,
    /// How many seconds faults are injected.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The number of clients.
    #[arg(long, default_value_t = 300)]
    peers: usize,
    /// The number of signaling nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// The average milliseconds between two messages of a client.
    #[arg(long, default_value_t = 700)]
    pace: u64,
    /// The kinds of faults. The default is all faults that apply to the kind of Redis.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// The `log.filter` of the nodes.
    #[arg(long, default_value = "debug")]
    log: String,
    /// Prints the script and ends.
    #[arg(long)]
    plan: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut options = ChaosOptions::parse();
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

async fn run(options: &ChaosOptions, mode: RedisMode, seed: u64) -> bool {
    let all = Fault::value_variants();
    let requested = if options.faults.is_empty() { all } else { &options.faults };
    let faults: Vec<_> = requested.iter().copied().filter(|fault| fault.applies_to(mode)).collect();
    let script = FaultScript::new(seed, Duration::from_secs(options.seconds), options.nodes, &faults);
    println!("== {mode:?}, seed {seed}, {} clients, {} s", options.peers, options.seconds);
    if options.plan {
        script.process_faults.iter().chain(&script.connection_faults).for_each(|step| println!("{step}"));
        return true;
    }
    let (injected, result) = inject_and_check(options, mode, seed, &script).await;
    report(&faults, &injected, &result);
    let passed = result.violations.is_empty();
    if !passed {
        println!(
            "repeat: chaos --redis {mode:?} --seed {seed} --seconds {} --peers {}",
            options.seconds, options.peers
        );
    }
    passed
}

async fn inject_and_check(
    options: &ChaosOptions,
    mode: RedisMode,
    seed: u64,
    script: &FaultScript,
) -> (Vec<InjectedFault>, RunReport) {
    let store = match mode {
        RedisMode::Single => FleetStore::start_single().await,
        RedisMode::Sentinel => FleetStore::start_sentinel().await,
        RedisMode::Cluster => FleetStore::start_cluster().await,
    };
    let settings: Vec<_> = NODE_SETTINGS.iter().copied().chain([("LOG__FILTER", &*options.log)]).collect();
    let mut fleet = Fleet::start(store, options.nodes, &settings).await;
    let plan = SwarmPlan {
        addresses: fleet.client_addresses(),
        secret: fleet.secret.clone(),
        rooms: Vec::new(),
        message_interval: Duration::from_millis(options.pace),
        room_percent: 30,
        ping_interval: PING_INTERVAL,
        pong_limit: PING_INTERVAL,
        seed: SeededRng::new(seed).fork(4).next_u64(),
    };
    let swarm = Swarm::start(&plan.fill(options.peers));
    swarm.wait_connected(Duration::from_secs(30)).await;
    let injected = injector::run_script(script, &mut fleet, &swarm).await;
    let histories = swarm.finish(HEALING_LIMIT).await;
    fleet.audit();
    let run = RunRecord { faults: injected, histories, window: RESUME_WINDOW, lossless: false };
    let result = check(&run);
    (run.faults, result)
}

fn report(faults: &[Fault], injected: &[InjectedFault], result: &RunReport) {
    let count = |fault: &Fault| {
        let name = format!("{fault:?}");
        let mut words = injected.iter().filter_map(|fault| fault.description.split([':', ' ']).next());
        (words.by_ref().filter(|word| *word == name).count(), name)
    };
    let counts: Vec<_> = faults.iter().map(count).map(|(count, name)| format!("{name} {count}")).collect();
    println!("faults: {}", counts.join(", "));
    println!("{result}");
}
