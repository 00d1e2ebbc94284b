//! What a process depends on hangs, such as the reader of its log or a file system: no request, no
//! message and no signal waits for it.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::Command,
    time::Duration,
};

use signalbox_tests::{
    cluster::random_secret,
    http::Request,
    net::{eventually, eventually_within, within},
    peer::{TestConnection, TestPeer},
    process::Process,
    token::TokenBuilder,
};
use tempfile::TempDir;

/// Within this time a process must end after SIGTERM: its drain, and a second for its last lines.
const END_LIMIT: Duration = Duration::from_secs(8);

all_of! {
    /// The binaries that serve.
    Service { Signalbox, Signal, Auth }
}

impl Service {
    fn binary(self) -> &'static str {
        match self {
            Self::Signalbox => "signalbox",
            Self::Signal => "signal-service",
            Self::Auth => "auth-service",
        }
    }

    fn has_peers(self) -> bool {
        self != Self::Auth
    }
}

fn base_env(secret: &str) -> Vec<(String, String)> {
    [
        ("AUTH_SECRET", secret),
        ("SIGNALBOX__AUTH__GUESTS", "false"),
        ("SIGNALBOX__TIMING__DRAIN_SPREAD", "500ms"),
        ("SIGNALBOX__TIMING__DRAIN", "2s"),
        ("SIGNALBOX__SERVER__WORKERS", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// The two ends of a socket that takes no more bytes: its reader reads nothing.
fn full_socket() -> (UnixStream, UnixStream) {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    // One byte is the smallest write, so no write fits after this.
    for size in [4_096, 1] {
        while writer.write(&vec![b'\n'; size]).is_ok() {}
        assert_eq!(writer.write(b"\n").unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    writer.set_nonblocking(false).unwrap();
    (writer, reader)
}

async fn join(process: &Process, secret: &str, user: &str) -> TestPeer {
    let token = TokenBuilder::valid("r", user).sign(secret);
    TestConnection::open(process.address, &token).await.into_peer().await
}

/// Reads the log until it has this text.
fn read_until(mut log: UnixStream, wanted: &str) -> String {
    log.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut text, mut page) = (String::new(), [0; 65_536]);
    while !text.contains(wanted) {
        let count = log.read(&mut page).unwrap_or_else(|error| panic!("no line with {wanted}: {error}"));
        text.push_str(&String::from_utf8_lossy(&page[..count]));
    }
    text
}

/// The output is full before the process starts, so its first line would block.
#[tokio::test]
async fn no_service_waits_for_the_reader_of_its_log() {
    for service in Service::ALL {
        let name = service.binary();
        let secret = random_secret();
        let mut env = base_env(&secret);
        env.push(("SIGNALBOX__LOG__BUFFER".to_owned(), "64KiB".to_owned()));
        let (output, log) = full_socket();
        let process = Process::launch_logging_to(name, &env, output);
        within("the process is ready", process.wait_ready()).await;
        if service.has_peers() {
            let (alice, bob) = (join(&process, &secret, "alice").await, join(&process, &secret, "bob").await);
            alice.offer(&bob, "v=0").await;
            within("a message arrives", bob.next_offer()).await;
        }
        // Each request logs a line. After some hundred lines the queue is full.
        const DROPPED: &str = "signalbox_log_lines_dropped_total";
        eventually_within(Duration::from_secs(60), &format!("{name} counts dropped lines"), async || {
            for _ in 0..50 {
                assert_eq!(Request::get("/none").send(process.address).await.status, 404);
            }
            (process.metric(DROPPED).await > 0.0).then_some(())
        })
        .await;
        assert_eq!(Request::get("/health/live").send(process.address).await.status, 200);
        let text = tokio::task::spawn_blocking(move || read_until(log, "log_lines_dropped")).await.unwrap();
        let report = text.lines().find(|line| line.contains("log_lines_dropped")).unwrap();
        assert!(report.contains("WARN") && report.contains("lines="), "{report}");
        process.terminate();
        process.wait_exit(END_LIMIT).await;
    }
}

#[tokio::test]
async fn a_service_ends_while_its_log_is_not_read() {
    for service in Service::ALL {
        let (output, _log) = full_socket();
        let process = Process::launch_logging_to(service.binary(), &base_env(&random_secret()), output);
        within("the process is ready", process.wait_ready()).await;
        process.terminate();
        let status = process.wait_exit(END_LIMIT).await;
        assert!(status.success(), "{service:?}: {status}");
    }
}

/// A refused configuration ends the process with its exit code, although the line that says why has
/// no reader.
#[tokio::test]
async fn a_refused_start_ends_while_its_output_is_not_read() {
    for service in Service::ALL {
        let (output, _log) = full_socket();
        let env = [("AUTH_SECRET".to_owned(), "short".to_owned())];
        let process = Process::launch_logging_to(service.binary(), &env, output);
        assert_eq!(process.wait_exit(END_LIMIT).await.code(), Some(2), "{service:?}");
    }
}

/// The file of the published keys is a pipe to which nothing writes: a read of it does not end.
#[tokio::test]
async fn a_hanging_key_file_is_reported_and_does_not_keep_a_node_from_ending() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("jwks.json");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut env = base_env(&random_secret());
    env.retain(|(name, _)| name != "AUTH_SECRET");
    env.push(("SIGNALBOX_SESSION_KEY".to_owned(), random_secret()));
    env.push(("SIGNALBOX__AUTH__JWKS_FILE".to_owned(), path.display().to_string()));
    let process = Process::launch("signal-service", &env);
    eventually("the file is reported", async || {
        process.log().contains("the read did not end in time").then_some(())
    })
    .await;
    assert_eq!(Request::get("/health/live").send(process.address).await.status, 200);
    assert_eq!(Request::get("/health/ready").send(process.address).await.status, 503);
    process.terminate();
    let status = process.wait_exit(END_LIMIT).await;
    assert!(status.success(), "{status}");
}
