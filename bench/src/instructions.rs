//! The instructions that the real server executes for a message and for a join, counted by
//! callgrind, and compared with those that the repository keeps.
//!
//! A count does not depend on how busy or how fast the machine is. Each operation is counted as the
//! difference of two runs, one with twice as many operations as the other. So the start and the end
//! of the server do not count, and nothing in the server has to know of the measurement.
//!
//! The counts depend on the compiler, the C library and the vector instructions of the CPU. So the
//! file has a section for each such toolchain, and counts of another toolchain are not compared.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use crate::{
    crowd::{Crowd, Observed, Observer},
    dialect::{Event, Peer},
    processes::{Processes, free_address},
    servers::{
        RunningServer,
        signalbox_server::{dialect_with_secret, raised_limits},
        tokens::random_hex,
        variable,
    },
    swarm::Swarm,
};

/// A count may grow by this much, in percent.
const LIMIT: u64 = 3;

/// How long one step may take; callgrind makes the server about fifty times slower.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// The status of a step of `tests/run.sh` that was skipped.
const SKIPPED: u8 = 77;

/// The beginning of the line that begins a section.
const SECTION: &str = "toolchain: ";

const HEAD: &str = "\
# Instructions of a release build of signal-service, memory store, counted by callgrind.
# `bench/instructions.sh` compares them and fails if one grows by more than 3 %.
# `bench/instructions.sh --update` writes the section of this toolchain.
";

/// Counts instructions. `bench/instructions.sh` passes the paths.
#[derive(Parser)]
#[command(name = "instructions")]
pub struct Options {
    /// The binary of the signaling service.
    #[arg(long)]
    signal_service: PathBuf,
    /// The file with the counts to compare with.
    #[arg(long)]
    file: PathBuf,
    /// Write the counts into the file.
    #[arg(long)]
    update: bool,
}

/// An operation that is counted.
struct Case {
    name: &'static str,
    /// How many peers are in the room before anything is counted.
    peers: usize,
    /// How many operations the longer run has more.
    operations: usize,
    work: Work,
}

enum Work {
    /// A peer sends so many messages to the other at once, and waits for all acks and arrivals.
    Forward(usize),
    /// A peer sends one message to the room, and waits until all have it. An operation is one
    /// arrival.
    Broadcast,
    /// Peers join one after the other, two in each room.
    Join,
}

const CASES: [Case; 4] = [
    Case { name: "a message to a peer", peers: 2, operations: 5_000, work: Work::Forward(1) },
    Case {
        name: "a message of eight that arrive at once",
        peers: 2,
        operations: 8_000,
        work: Work::Forward(8),
    },
    Case {
        name: "an arrival of a message to a room of ten",
        peers: 10,
        operations: 18_000,
        work: Work::Broadcast,
    },
    Case {
        name: "a join with a token (HS256), and the end of the connection",
        peers: 2,
        operations: 1_000,
        work: Work::Join,
    },
];

/// Counts all cases, and compares or writes them.
pub fn run(options: &Options) -> Result<ExitCode> {
    let toolchain = describe_toolchain()?;
    println!("{SECTION}{toolchain}");
    let text = fs::read_to_string(&options.file).unwrap_or_default();
    let kept = read_section(&text, &toolchain);
    if kept.is_empty() && !options.update {
        println!(
            "skipped: {} has no counts of this toolchain, and those of another do not compare. Check out the \
             last commit before your change, run bench/instructions.sh --update, and commit the file.",
            options.file.display()
        );
        return Ok(ExitCode::from(SKIPPED));
    }
    let mut counts = Vec::new();
    for case in &CASES {
        counts.push((case.name, count_case(&options.signal_service, case)?));
    }
    let grown = counts.iter().filter(|(name, count)| print_count(&kept, name, *count)).count();
    if options.update {
        fs::write(&options.file, with_section(&text, &toolchain, &counts))?;
        println!("written to {}", options.file.display());
    } else if grown > 0 {
        bail!(
            "{grown} of {} counts grew by more than {LIMIT} %. Find the cause with callgrind_annotate; if the \
             growth is worth it, say why in the commit and run bench/instructions.sh --update",
            counts.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a count beside the kept one, and returns whether it grew too much.
fn print_count(kept: &[(String, u64)], name: &str, count: u64) -> bool {
    let Some((_, before)) = kept.iter().find(|(other, _)| other == name) else {
        println!("  {count:>8}  {name}: new");
        return false;
    };
    let growth = (count as f64 / *before as f64 - 1.0) * 100.0;
    let grew = 100 * count > (100 + LIMIT) * before;
    let shrank = 100 * count < (100 - LIMIT) * before;
    let note = match (grew, shrank) {
        (true, _) => ": GREW TOO MUCH",
        (_, true) => ": keep the gain with bench/instructions.sh --update",
        _ => "",
    };
    println!("  {count:>8}  {name} (kept: {before}, {growth:+.2} %){note}");
    grew
}

/// The instructions of one operation. The two runs are at the same time, on CPUs of their own.
fn count_case(binary: &Path, case: &Case) -> Result<u64> {
    let count = |cpu: usize, operations| count_run(binary, case, &cpu.to_string(), operations);
    let last_cpu = std::thread::available_parallelism().map_or(0, |count| usize::from(count) - 1);
    let (once, twice) = std::thread::scope(|scope| {
        let once = scope.spawn(|| count(0, case.operations));
        let twice = count(last_cpu, case.operations * 2);
        (once.join(), twice)
    });
    let once = once.unwrap_or_else(|_| bail!("the shorter run has panicked"))?;
    Ok(twice?.saturating_sub(once) / case.operations as u64)
}

/// The instructions of a whole run of the server with so many operations.
fn count_run(binary: &Path, case: &Case, cpu: &str, operations: usize) -> Result<u64> {
    let mut processes = Processes::new(cpu)?;
    let output = processes.folder.path().join("callgrind.out");
    let (secret, address) = (random_hex() + &random_hex(), free_address()?);
    let mut variables = raised_limits();
    variables.push(variable("SIGNALBOX_SESSION_KEY", random_hex() + &random_hex()));
    variables.push(variable("AUTH_SECRET", &secret));
    variables.push(variable("SIGNALBOX_LISTEN", address));
    variables.push(variable("SIGNALBOX__SERVER__WORKERS", 1));
    // What a node does at intervals depends on how long the run takes, so it is made rare.
    for (name, value) in [("LEASE", "30s"), ("RESUME_WINDOW", "5m"), ("GOING_WINDOW", "5m")] {
        variables.push(variable(&format!("SIGNALBOX__TIMING__{name}"), value));
    }
    let binary = std::path::absolute(binary)?;
    let arguments = [
        "--tool=callgrind",
        &format!("--callgrind-out-file={}", output.display()),
        &binary.to_string_lossy(),
    ];
    processes.spawn("signal-service", Path::new("valgrind"), &arguments, &variables)?;
    processes.wait_until_ready(address, Some("/health/ready"))?;
    let mut server =
        RunningServer { processes, addresses: vec![address], dialect: dialect_with_secret(&secret) };
    work(&server, case, operations)?;
    server.processes.stop_newest()?;
    let text = fs::read_to_string(&output).with_context(|| format!("read {}", output.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|number| number.trim().parse().ok()).context("callgrind has written no totals")
}

fn work(server: &RunningServer, case: &Case, operations: usize) -> Result<()> {
    let mut swarm = Swarm::new(server.dialect.framing())?;
    let mut crowd = Crowd::new(server, "counted", case.peers, case.peers);
    crowd.join_all(&mut swarm, 1)?;
    match case.work {
        Work::Forward(batch) => exchange(&mut swarm, &mut crowd, operations / batch, batch, batch),
        Work::Broadcast => {
            let arrivals = case.peers - 1;
            exchange(&mut swarm, &mut crowd, operations / arrivals, 1, arrivals)
        }
        Work::Join => {
            for peer in 0..case.peers {
                swarm.disconnect(peer);
            }
            Crowd::new(server, "joining", operations, 2).join_all(&mut swarm, 1)
        }
    }
}

/// Counts what has happened since the last batch.
#[derive(Default)]
struct Progress {
    arrived: usize,
    acknowledged: u64,
}

impl Observer for Progress {
    fn on_event(&mut self, _swarm: &mut Swarm, _peers: &[Peer], _peer: usize, event: Event) {
        match event {
            Event::Delivered => self.arrived += 1,
            Event::Acknowledged(number) => self.acknowledged = number,
            _ => {}
        }
    }
}

/// Sends batches of messages, each when the one before has arrived and is acknowledged. So every
/// run wakes the server equally often. The peers take turns, because what a peer costs depends on
/// where its random id is among the others.
fn exchange(
    swarm: &mut Swarm,
    crowd: &mut Crowd<'_>,
    batches: usize,
    messages: usize,
    arrivals: usize,
) -> Result<()> {
    let dialect = &*crowd.server.dialect;
    let mut sent = vec![0; crowd.peers.len()];
    for batch in 0..batches {
        let (from, target) = (batch % crowd.peers.len(), (batch + 1) % crowd.peers.len());
        for _ in 0..messages {
            sent[from] += 1;
            let (room, to) = (&crowd.peers[from].room, &crowd.peers[target].id);
            swarm.build_text(from, |output| {
                if arrivals == messages {
                    dialect.write_message(to, sent[from], output);
                } else {
                    dialect.write_broadcast(room, sent[from], output);
                }
            });
        }
        let mut progress = Progress::default();
        let mut observed = Observed { crowd, observer: &mut progress };
        swarm.run_until(&mut observed, STEP_LIMIT, "a batch has arrived", |observed, _| {
            observed.crowd.check_faults()?;
            Ok(observed.observer.arrived == arrivals && observed.observer.acknowledged == sent[from])
        })?;
    }
    Ok(())
}

/// All that changes counts, and is not in the repository.
fn describe_toolchain() -> Result<String> {
    let first_line = |program: &str, argument: &str| -> Result<String> {
        let output =
            Command::new(program).arg(argument).output().with_context(|| format!("run {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
    };
    let libc = first_line("ldd", "--version")?;
    let libc = libc.rsplit(' ').next().unwrap_or_default();
    let (rustc, valgrind) = (first_line("rustc", "--version")?, first_line("valgrind", "--version")?);
    #[cfg(target_arch = "x86_64")]
    let vectors = if std::arch::is_x86_feature_detected!("avx2") { "avx2" } else { "no avx2" };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = "";
    Ok(format!("{rustc}, libc {libc}, {valgrind}, {} {vectors}", std::env::consts::ARCH))
}

/// The counts of a toolchain.
fn read_section(text: &str, toolchain: &str) -> Vec<(String, u64)> {
    let lines = text.lines().skip_while(|line| line.strip_prefix(SECTION) != Some(toolchain)).skip(1);
    lines
        .map_while(|line| {
            let (count, name) = line.trim().split_once(' ')?;
            Some((name.trim().to_owned(), count.parse().ok()?))
        })
        .collect()
}

/// The text of the file with another section for this toolchain, as the first.
fn with_section(text: &str, toolchain: &str, counts: &[(&str, u64)]) -> String {
    let mut result = format!("{HEAD}\n{SECTION}{toolchain}\n");
    for (name, count) in counts {
        let _ = writeln!(result, "{count:>8}  {name}");
    }
    let others = text.split(SECTION).skip(1).filter(|section| section.lines().next() != Some(toolchain));
    for section in others {
        let _ = write!(result, "\n{SECTION}{}\n", section.trim_end());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_only_the_one_of_its_toolchain() {
        let first = with_section("", "rustc 1", &[("a message", 700), ("a join", 9_000)]);
        let second = with_section(&first, "rustc 2", &[("a message", 600)]);
        let third = with_section(&second, "rustc 1", &[("a message", 710)]);
        assert_eq!(read_section(&third, "rustc 1"), [("a message".to_owned(), 710)]);
        assert_eq!(read_section(&third, "rustc 2"), [("a message".to_owned(), 600)]);
        assert!(read_section(&third, "rustc 3").is_empty());
        assert_eq!(with_section(&third, "rustc 1", &[("a message", 710)]), third);
    }

    #[test]
    fn growth_above_the_limit_is_refused_and_a_gain_is_not() {
        let kept = [("a message".to_owned(), 1_000)];
        assert!(!print_count(&kept, "a message", 1_030));
        assert!(print_count(&kept, "a message", 1_031));
        assert!(!print_count(&kept, "a message", 500));
        assert!(!print_count(&kept, "a new operation", 500));
    }
}
