//! One process of the product: started on a free port, watched, ended by its own id.

use std::{
    fs::File,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use signalbox_config::LoadedConfig;
use tempfile::TempDir;

use crate::{
    http::Request,
    net::{DEADLINE, eventually, eventually_within, free_address},
};

/// A running process.
pub struct Process {
    /// The address on which it listens.
    pub address: SocketAddr,
    /// The address of `/metrics`.
    pub metrics_address: SocketAddr,
    name: String,
    // A std mutex: held for one system call.
    child: Mutex<Child>,
    log: PathBuf,
    // Kept until the process has ended.
    _dir: Option<TempDir>,
}

/// The output of a process that ended by itself.
#[derive(Debug)]
pub struct ProcessOutput {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Environment variables of a process. The process inherits no others. A name that begins with `--`
/// is a command-line flag.
pub type Env<'a> = &'a [(String, String)];

/// The path of a binary of this workspace: next to the running test, or in `$SIGNALBOX_BIN_DIR`.
///
/// # Panics
/// If the binary was not built.
pub fn binary(name: &str) -> PathBuf {
    let dir = LoadedConfig::read_environment().get("SIGNALBOX_BIN_DIR").map_or_else(
        || {
            let test = std::env::current_exe().expect("the test's own path");
            // target/PROFILE/deps/TEST, or target/PROFILE/BINARY
            let dir = test.parent().expect("the folder of the test");
            if dir.ends_with("deps") {
                dir.parent().expect("target/PROFILE").to_owned()
            } else {
                dir.to_owned()
            }
        },
        PathBuf::from,
    );
    let path = dir.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

/// The log file of a process: in `$SIGNALBOX_TEST_LOGS`, or in a temporary folder of the process.
pub(crate) fn log_file(name: &str) -> (PathBuf, Option<TempDir>) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let file =
        format!("scenario-{}-{}-{name}.log", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    match LoadedConfig::read_environment().get("SIGNALBOX_TEST_LOGS") {
        Some(dir) => {
            std::fs::create_dir_all(dir).expect("the folder of $SIGNALBOX_TEST_LOGS");
            (PathBuf::from(dir).join(file), None)
        }
        None => {
            let dir = TempDir::with_prefix("signalbox-log-").expect("a temporary folder");
            (dir.path().join(file), Some(dir))
        }
    }
}

impl Process {
    /// Starts a binary on a free loopback port, with debug logs, and waits until it is ready.
    ///
    /// # Panics
    /// If the process ends or is not ready in time.
    pub async fn start(name: &str, env: Env<'_>) -> Self {
        let process = Self::launch(name, env);
        process.wait_ready().await;
        process
    }

    /// Waits until the process is ready.
    ///
    /// # Panics
    /// If the process ends or is not ready in time.
    pub async fn wait_ready(&self) {
        eventually(&format!("{} is ready", self.name), async || {
            self.assert_running();
            let response = Request::get("/health/ready").try_send(self.address).await?;
            (response.status == 200).then_some(())
        })
        .await;
    }

    /// Starts a binary and does not wait.
    ///
    /// # Panics
    /// If the process cannot be started.
    pub fn launch(name: &str, env: Env<'_>) -> Self {
        Self::launch_at(name, free_address(), env)
    }

    /// Starts a binary at this address and does not wait.
    ///
    /// # Panics
    /// If the process cannot be started.
    pub fn launch_at(name: &str, address: SocketAddr, env: Env<'_>) -> Self {
        Self::launch_with_log(name, address, env, None)
    }

    /// Starts a binary whose standard output and error are this socket, and does not wait. The log of
    /// the process is empty.
    ///
    /// # Panics
    /// If the process cannot be started.
    pub fn launch_logging_to(name: &str, env: Env<'_>, output: UnixStream) -> Self {
        Self::launch_with_log(name, free_address(), env, Some(output))
    }

    fn launch_with_log(name: &str, address: SocketAddr, env: Env<'_>, output: Option<UnixStream>) -> Self {
        let (log, dir) = log_file(name);
        let metrics_address = free_address();
        let out = match output {
            Some(socket) => OwnedFd::from(socket),
            None => File::create(&log).expect("a log file").into(),
        };
        let flags = env.iter().filter(|(name, _)| name.starts_with("--"));
        let child = Command::new(binary(name))
            .args(["--listen", &address.to_string()])
            .args(flags.flat_map(|(name, value)| [name, value]))
            .env_clear()
            .env("SIGNALBOX__LOG__FILTER", "debug")
            .env("SIGNALBOX__SERVER__METRICS_LISTEN", metrics_address.to_string())
            .envs(env.iter().filter(|(name, _)| !name.starts_with("--")).cloned())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("an output"))
            .stderr(out)
            .spawn()
            .expect("a process");
        Self { address, metrics_address, name: name.to_owned(), child: Mutex::new(child), log, _dir: dir }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The exit status, if the process has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("the state of a child process")
    }

    /// # Panics
    /// If the process has ended.
    pub fn assert_running(&self) {
        if let Some(status) = self.exit_status() {
            panic!("{} has ended with {status}:\n{}", self.name, last_lines(&self.log()));
        }
    }

    /// Waits until the process ends, at most `limit`.
    ///
    /// # Panics
    /// If the process does not end in time.
    pub async fn wait_exit(&self, limit: Duration) -> ExitStatus {
        eventually_within(limit, &format!("the end of {}", self.name), async || self.exit_status()).await
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        send_signal(self.pid(), "TERM");
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&self) {
        let mut child = self.child();
        // The process may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Resident memory, KiB (`VmRSS` of proc_pid_status(5)).
    ///
    /// # Panics
    /// If the process has ended.
    pub fn rss_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("/proc/PID/status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// The value of a metric; 0 if nothing was counted yet. `name` includes the labels, as in the
    /// text format.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = Request::get("/metrics").send(self.metrics_address).await.text;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a metric's value"))
    }

    /// Checks that the log contains no known form of secret (I8), no text of `more`, and no panic.
    ///
    /// # Panics
    /// If the log does.
    pub fn assert_clean_log(&self, also_forbidden: &[&str]) {
        let log = self.log();
        let forbidden = ["eyJ", "v=0", "candidate:", "token=", "sbt_", "sbr_", "sbi_", "panicked at"];
        for text in forbidden.iter().chain(also_forbidden) {
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                panic!("the log of {} holds {text:?}: {line}", self.name);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            // The test has failed already; the log shows what the process saw.
            let mut stderr = std::io::stderr();
            let _ = std::io::Write::write_fmt(
                &mut stderr,
                format_args!("---- end of the log of {}\n{}\n", self.name, last_lines(&self.log())),
            );
        }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Sends a signal to one process. After `STOP` it returns when every thread of the process has
/// stopped, because `kill` returns earlier.
///
/// # Panics
/// If the process does not exist, or a thread of it still runs 5 s after `STOP`.
pub fn send_signal(pid: u32, name: &str) {
    let script = format!("kill -{name} {pid}");
    let status = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{script}");
    if name == "STOP" {
        let end = std::time::Instant::now() + Duration::from_secs(5);
        while !has_stopped(pid) {
            assert!(std::time::Instant::now() < end, "process {pid} does not stop");
            std::thread::yield_now();
        }
    }
}

/// Whether every thread of a process has stopped, by the state in `/proc`.
fn has_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the threads of the process");
    threads.flatten().all(|thread| {
        // The state follows the name, which is in parentheses and may contain any character.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z']))
    })
}

/// Runs a binary that must end by itself.
///
/// # Panics
/// If the process does not end in time.
pub async fn run_to_exit(name: &str, args: &[&str], env: Env<'_>, limit: Duration) -> ProcessOutput {
    let child = Command::new(binary(name))
        .args(args)
        .env_clear()
        .envs(env.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    let pid = child.id();
    let outcome = tokio::task::spawn_blocking(move || child.wait_with_output());
    match tokio::time::timeout(limit.max(Duration::from_secs(1)), outcome).await {
        Ok(output) => {
            let output = output.expect("a thread").expect("the process's output");
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            ProcessOutput {
                code: output.status.code(),
                stdout: text(output.stdout),
                stderr: text(output.stderr),
            }
        }
        Err(_) => {
            send_signal(pid, "KILL");
            panic!("{name} {args:?} did not end within {limit:?}")
        }
    }
}

/// How long a process may take to end when it refuses to start.
pub const EXIT_LIMIT: Duration = DEADLINE;
