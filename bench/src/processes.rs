//! The processes of a server that is measured: their start, CPU time, memory and end.
//!
//! Every process runs on the CPUs of the servers, listens on loopback only, and dies with the
//! benchmark, whatever ends the benchmark.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take to start; under callgrind on a busy machine it takes long.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Ticks of `/proc/PID/stat` in a second, on every Linux of today.
const TICKS: f64 = 100.0;

/// The processes of one server. They are killed when this is dropped.
pub struct Processes {
    cpus: String,
    children: Vec<(String, Child)>,
    /// A folder for their files.
    pub folder: TempDir,
}

impl Processes {
    /// No process yet; they will run on these CPUs (a list of `taskset`).
    pub fn new(cpus: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("signalbox-bench-")?;
        Ok(Self { cpus: cpus.to_owned(), children: Vec::new(), folder })
    }

    /// Starts a program. It inherits `PATH` and no other variable.
    pub fn spawn(
        &mut self,
        name: &str,
        program: &Path,
        arguments: &[&str],
        variables: &[(String, String)],
    ) -> Result<()> {
        let log = File::create(self.log_path(name))?;
        // The kernel kills the process when the benchmark ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "-c", &self.cpus])
            .arg(program)
            .args(arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        self.children.push((name.to_owned(), child));
        Ok(())
    }

    /// Waits until the newest process accepts connections and, with a path, answers 200 there.
    pub fn wait_until_ready(&mut self, address: SocketAddr, path: Option<&str>) -> Result<()> {
        let end = Instant::now() + START_LIMIT;
        let Some((name, child)) = self.children.last_mut() else { bail!("no process") };
        let name = name.clone();
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("{name} has ended with {status}:\n{}", self.log_tail(&name));
            }
            if is_ready(address, path) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("{name} is not ready after {START_LIMIT:?}:\n{}", self.log_tail(&name));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills one process, as a crash would.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let Some(index) = self.children.iter().position(|(other, _)| other == name) else {
            bail!("no process {name}")
        };
        let (_, mut child) = self.children.remove(index);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks the newest process to stop, and waits until it has ended.
    pub fn stop_newest(&mut self) -> Result<()> {
        let Some((name, mut child)) = self.children.pop() else { bail!("no process") };
        let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        let status = child.wait()?;
        if !kill.success() || !status.success() {
            bail!("{name} has ended with {status}:\n{}", self.log_tail(&name));
        }
        Ok(())
    }

    /// Stops all processes, as a debugger does.
    pub fn stop(&self) -> Result<()> {
        self.send_signal(Signal::STOP)
    }

    /// Lets all processes run again.
    pub fn resume(&self) -> Result<()> {
        self.send_signal(Signal::CONT)
    }

    fn send_signal(&self, signal: Signal) -> Result<()> {
        for (name, child) in &self.children {
            kill_process(Pid::from_child(child), signal).with_context(|| format!("a signal to {name}"))?;
        }
        Ok(())
    }

    /// Waits until every thread of the processes sleeps, so nothing is left to do. Returns when that
    /// was.
    pub fn wait_until_asleep(&self, limit: Duration, interval: Duration) -> Result<Instant> {
        let mut threads: Vec<_> =
            self.children.iter().flat_map(|(_, child)| thread_files(child.id())).collect();
        let (start, mut asleep_since) = (Instant::now(), None);
        loop {
            let now = Instant::now();
            match (threads.iter().position(|thread| !is_asleep(thread)), asleep_since) {
                // Twice in a row: a thread may have been woken by one that slept already.
                (None, Some(since)) => return Ok(since),
                (None, None) => asleep_since = Some(now),
                (Some(busy), _) => {
                    asleep_since = None;
                    // It is busy the next time, too, and the others need not be read.
                    threads.swap(0, busy);
                }
            }
            if now - start > limit {
                bail!("the server has not finished within {limit:?}");
            }
            std::thread::sleep(interval);
        }
    }

    /// The end of the log of a process.
    pub fn log_tail(&self, name: &str) -> String {
        let text = fs::read(self.log_path(name)).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2_000)..]).into_owned()
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// The CPU time so far of every process, with its own child processes.
    pub fn cpu_time(&self) -> CpuTime {
        let mut time = CpuTime::default();
        let family = self.family();
        for (pid, name) in &family {
            let (ticks, threads) = process_cpu(*pid);
            let process = time.processes.entry(name.clone()).or_default();
            process.ticks += ticks;
            process.threads.extend(threads);
        }
        time
    }

    /// The resident memory in bytes: the proportional share where pages are shared.
    pub fn memory(&self) -> u64 {
        self.family().keys().map(|pid| process_memory(*pid)).sum()
    }

    /// The resident memory in bytes of the processes with this name.
    pub fn memory_of(&self, name: &str) -> u64 {
        self.family().iter().filter(|(_, own)| *own == name).map(|(pid, _)| process_memory(*pid)).sum()
    }

    /// All process ids with the name under which they or their parent were started.
    fn family(&self) -> HashMap<u32, String> {
        let mut family: HashMap<u32, String> =
            self.children.iter().map(|(name, child)| (child.id(), name.clone())).collect();
        let parents = parents();
        loop {
            let found: Vec<_> = parents
                .iter()
                .filter(|(pid, parent)| !family.contains_key(pid) && family.contains_key(parent))
                .map(|(pid, parent)| (*pid, family[parent].clone()))
                .collect();
            if found.is_empty() {
                return family;
            }
            family.extend(found);
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
        }
        for (_, child) in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// The CPU time of some processes at one moment.
#[derive(Default)]
pub struct CpuTime {
    processes: HashMap<String, ProcessTime>,
}

#[derive(Default)]
struct ProcessTime {
    ticks: f64,
    threads: HashMap<u32, u64>,
}

impl CpuTime {
    /// The seconds that all processes have used since `earlier`.
    pub fn since(&self, earlier: &Self) -> f64 {
        self.processes.keys().map(|name| self.since_of(name, earlier)).sum()
    }

    /// The seconds that the processes with this name have used since `earlier`.
    pub fn since_of(&self, name: &str, earlier: &Self) -> f64 {
        let Some(now) = self.processes.get(name) else { return 0.0 };
        let Some(then) = earlier.processes.get(name) else { return now.ticks / TICKS };
        // The scheduler counts nanoseconds for each thread, but forgets threads that have ended.
        if now.threads.is_empty() || then.threads.keys().any(|thread| !now.threads.contains_key(thread)) {
            return (now.ticks - then.ticks) / TICKS;
        }
        let nanoseconds: u64 = now
            .threads
            .iter()
            .map(|(thread, time)| time.saturating_sub(then.threads.get(thread).copied().unwrap_or(0)))
            .sum();
        nanoseconds as f64 / 1e9
    }
}

/// The ticks of a process, and the nanoseconds of each of its threads.
fn process_cpu(pid: u32) -> (f64, HashMap<u32, u64>) {
    let mut threads = HashMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let thread = entry.file_name().to_string_lossy().parse().unwrap_or(0);
        let text = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
        if let Some(time) = text.split(' ').next().and_then(|time| time.parse().ok()) {
            threads.insert(thread, time);
        }
    }
    (process_ticks(&pid.to_string()), threads)
}

/// The files with the states of the threads of a process.
fn thread_files(pid: u32) -> Vec<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.map(|entry| entry.path().join("stat")).collect()
}

/// Whether a thread waits. One that has ended waits, too.
fn is_asleep(stat_file: &Path) -> bool {
    let text = fs::read_to_string(stat_file).unwrap_or_default();
    text.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('S'))
}

/// User and system time of a process and of its child processes that have ended, in ticks.
fn process_ticks(pid: &str) -> f64 {
    stat_fields(pid).map_or(0.0, |fields| {
        fields.iter().skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum()
    })
}

/// The fields of `/proc/PID/stat` after the name, which may hold spaces.
fn stat_fields(pid: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Each process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .filter_map(|pid| Some((pid, stat_fields(&pid.to_string())?.get(1)?.parse().ok()?)))
        .collect()
}

fn process_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// How busy the rest of the machine was: everything that is neither the server nor the load.
pub struct MachineWatch {
    begin: Instant,
    busy: f64,
    own: f64,
}

impl MachineWatch {
    /// Begins to watch.
    pub fn start(processes: &Processes) -> Self {
        Self { begin: Instant::now(), busy: machine_ticks(), own: own_ticks(processes) }
    }

    /// The CPU time of the rest since the start, as a share of one core.
    pub fn busy_share(&self, processes: &Processes) -> f64 {
        let rest = (machine_ticks() - self.busy) - (own_ticks(processes) - self.own);
        (rest / TICKS / self.begin.elapsed().as_secs_f64()).max(0.0)
    }
}

/// The ticks of this process, as a share of one core since `begin`.
pub fn load_ticks() -> f64 {
    process_ticks("self")
}

/// Seconds of CPU time in ticks.
pub fn ticks_to_seconds(ticks: f64) -> f64 {
    ticks / TICKS
}

fn own_ticks(processes: &Processes) -> f64 {
    let servers: f64 = processes.family().keys().map(|pid| process_ticks(&pid.to_string())).sum();
    servers + load_ticks()
}

/// User, nice, system and stolen time of all CPUs. Interrupts are left out, because the kernel may
/// count those of our own packets there.
fn machine_ticks() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    [0, 1, 2, 7].iter().filter_map(|index| fields.get(*index)).sum()
}

fn is_ready(address: SocketAddr, path: Option<&str>) -> bool {
    let Ok(mut socket) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let Some(path) = path else { return true };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
    let _ = socket.write_all(request.as_bytes()).and_then(|()| socket.read_to_string(&mut answer));
    answer.starts_with("HTTP/1.1 200")
}

/// A loopback address whose port is free now.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
