//! One process of the product: started on a free port, watched, ended by its own id.

use std::{
    fs::File,
    net::SocketAddr,
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
    /// Where it listens.
    pub address: SocketAddr,
    name: String,
    // A std mutex: held for one system call.
    child: Mutex<Child>,
    log: PathBuf,
    // Held until the process has ended.
    _dir: Option<TempDir>,
}

/// What a process that ended by itself left behind.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Environment variables for a process; it gets no others. One whose name begins with `--` is a flag.
pub type Env<'a> = &'a [(String, String)];

/// The path of a binary of this workspace: beside the running test, or in `$SIGNALBOX_BIN_DIR`.
///
/// # Panics
/// If it was not built.
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

/// Where logs go: `$SIGNALBOX_TEST_LOGS`, or a folder that goes with the process.
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
    /// Starts a binary on a free loopback port, logging at debug level, and waits until it is ready.
    ///
    /// # Panics
    /// If it ends or does not get ready in time.
    pub async fn start(name: &str, env: Env<'_>) -> Self {
        let process = Self::launch(name, env);
        process.until_ready().await;
        process
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// If it ends or does not get ready in time.
    pub async fn until_ready(&self) {
        eventually(&format!("{} is ready", self.name), async || {
            self.assert_running();
            let answer = Request::get("/health/ready").try_send(self.address).await?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Starts a binary and does not wait.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn launch(name: &str, env: Env<'_>) -> Self {
        Self::launch_at(name, free_address(), env)
    }

    /// Starts a binary at this address and does not wait.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn launch_at(name: &str, address: SocketAddr, env: Env<'_>) -> Self {
        let (log, dir) = log_file(name);
        let out = File::create(&log).expect("a log file");
        let typed = env.iter().filter(|(name, _)| name.starts_with("--"));
        let child = Command::new(binary(name))
            .args(["--listen", &address.to_string()])
            .args(typed.flat_map(|(name, value)| [name, value]))
            .env_clear()
            .env("SIGNALBOX__LOG__FILTER", "debug")
            .envs(env.iter().filter(|(name, _)| !name.starts_with("--")).cloned())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a log file"))
            .stderr(out)
            .spawn()
            .expect("a process");
        Self { address, name: name.to_owned(), child: Mutex::new(child), log, _dir: dir }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("the state of a child process")
    }

    /// # Panics
    /// If it has ended.
    pub fn assert_running(&self) {
        if let Some(status) = self.ended() {
            panic!("{} has ended with {status}:\n{}", self.name, tail(&self.log()));
        }
    }

    /// Waits until it ends, at most `limit`.
    ///
    /// # Panics
    /// If it does not.
    pub async fn wait(&self, limit: Duration) -> ExitStatus {
        eventually_within(limit, &format!("the end of {}", self.name), async || self.ended()).await
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        signal(self.pid(), "TERM");
    }

    /// Sends SIGKILL and waits.
    pub fn kill(&self) {
        let mut child = self.child();
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Resident memory, KiB (`VmRSS` of proc_pid_status(5)).
    ///
    /// # Panics
    /// If the process is gone.
    pub fn rss_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("/proc/PID/status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// A metric's value; 0 where it has not been counted yet. `name` with its labels, as in the text format.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = Request::get("/metrics").send(self.address).await.text;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a metric's value"))
    }

    /// Checks that the log holds no secret of its own kind (I8), none of `more`, and no panic.
    ///
    /// # Panics
    /// If it does.
    pub fn assert_clean_log(&self, more: &[&str]) {
        let log = self.log();
        let marks = ["eyJ", "v=0", "candidate:", "token=", "sbt_", "sbr_", "sbi_", "panicked at"];
        for mark in marks.iter().chain(more) {
            if let Some(line) = log.lines().find(|line| line.contains(mark)) {
                panic!("the log of {} holds {mark:?}: {line}", self.name);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            // The test has failed already; this says what the process saw.
            let mut stderr = std::io::stderr();
            let _ = std::io::Write::write_fmt(
                &mut stderr,
                format_args!("---- end of the log of {}\n{}\n", self.name, tail(&self.log())),
            );
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    let script = format!("kill -{name} {pid}");
    let status = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{script}");
}

/// Runs a binary that should end by itself.
///
/// # Panics
/// If it does not end in time.
pub async fn run(name: &str, args: &[&str], env: Env<'_>, limit: Duration) -> Ended {
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
            Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
        }
        Err(_) => {
            signal(pid, "KILL");
            panic!("{name} {args:?} did not end within {limit:?}")
        }
    }
}

/// How long a process that refuses to start may take to say so.
pub const AT_ONCE: Duration = DEADLINE;
