//! Somebody who is told over HTTP, and does as a test says: takes it, refuses, is slow, says nothing, hangs up.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::Instant,
};

use crate::net::eventually_within;

/// What a receiver does with what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Answers with this status.
    Status(u16),
    /// Answers 503 and asks for so many seconds.
    RetryAfter(u64),
    /// Answers 200 after a while.
    Slow(Duration),
    /// Says nothing.
    Hang,
    /// Closes the connection.
    HangUp,
    /// Answers 200 with more than anybody wants to read.
    Long,
    /// Leads elsewhere.
    Redirect(String),
}

/// One request.
#[derive(Debug, Clone)]
pub struct Told {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: u64,
    /// `webhook-signature`.
    pub signature: String,
    /// The body as it came.
    pub body: String,
    /// The body.
    pub event: Value,
    /// When it came.
    pub at: Instant,
    /// What was done with it.
    pub answer: Answer,
}

impl Told {
    /// `event`, `room` and, of a peer, its user.
    pub fn what(&self) -> String {
        let text = |name: &str| self.event[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("event"), text("room"), text("userId")).trim().to_owned()
    }

    /// Whether it was taken.
    pub fn is_taken(&self) -> bool {
        matches!(self.answer, Answer::Status(200..=299) | Answer::Long | Answer::Slow(_))
    }
}

type Mind = dyn Fn(&Told, &[Told]) -> Answer + Send + Sync;

/// A receiver on a port of its own.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    inner: Arc<Inner>,
    task: AbortHandle,
}

struct Inner {
    told: Mutex<Vec<Told>>,
    mind: Mutex<Arc<Mind>>,
}

impl Inner {
    fn told(&self) -> MutexGuard<'_, Vec<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receiver {
    /// One that does as `mind` says, who sees what came before.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(mind: impl Fn(&Told, &[Told]) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mind: Arc<Mind> = Arc::new(mind);
        let inner = Arc::new(Inner { told: Mutex::default(), mind: Mutex::new(mind) });
        let serving = inner.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, serving.clone()));
            }
        });
        Self { address, inner, task: task.abort_handle() }
    }

    /// One that takes everything.
    pub async fn willing() -> Self {
        Self::start(|_, _| Answer::Status(204)).await
    }

    /// From now on it does this.
    pub fn change_mind(&self, mind: impl Fn(&Told, &[Told]) -> Answer + Send + Sync + 'static) {
        *self.inner.mind.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(mind);
    }

    /// Everything it was told.
    pub fn told(&self) -> Vec<Told> {
        self.inner.told().clone()
    }

    /// What it took, each event once, in the order in which it was first taken.
    pub fn taken(&self) -> Vec<Told> {
        let mut taken: Vec<Told> = Vec::new();
        for told in self.told() {
            if told.is_taken() && taken.iter().all(|other| other.id != told.id) {
                taken.push(told);
            }
        }
        taken
    }

    /// Waits until it has taken so many events.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn wait_for(&self, limit: Duration, count: usize) -> Vec<Told> {
        eventually_within(limit, &format!("{count} events are taken"), async || {
            Some(self.taken()).filter(|taken| taken.len() >= count)
        })
        .await
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hooks?from=signalbox", self.address)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut socket: TcpStream, inner: Arc<Inner>) {
    let mut bytes = Vec::new();
    while let Some(told) = read(&mut socket, &mut bytes).await {
        let mind = inner.mind.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = {
            let mut all = inner.told();
            let answer = mind(&told, &all);
            all.push(Told { answer: answer.clone(), ..told });
            answer
        };
        let text = match &answer {
            Answer::Status(status) => format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"),
            Answer::RetryAfter(s) => {
                format!("HTTP/1.1 503 X\r\nRetry-After: {s}\r\nContent-Length: 0\r\n\r\n")
            }
            Answer::Slow(pause) => {
                tokio::time::sleep(*pause).await;
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()
            }
            Answer::Hang => return std::future::pending().await,
            Answer::HangUp => return,
            Answer::Long => {
                format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000))
            }
            Answer::Redirect(to) => {
                format!("HTTP/1.1 307 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
            }
        };
        if socket.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Told> {
    loop {
        if let Some((told, used)) = parse(bytes) {
            bytes.drain(..used);
            return Some(told);
        }
        let mut more = [0; 4096];
        match socket.read(&mut more).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&more[..count]),
            _ => return None,
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Told, usize)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: usize = header("content-length")?.parse().ok()?;
    let body = rest.get(..length)?.to_owned();
    assert_eq!(header("content-type").as_deref(), Some("application/json"), "{head}");
    let told = Told {
        id: header("webhook-id").expect("webhook-id"),
        timestamp: header("webhook-timestamp").and_then(|text| text.parse().ok()).expect("webhook-timestamp"),
        signature: header("webhook-signature").expect("webhook-signature"),
        event: serde_json::from_str(&body).expect("JSON"),
        body,
        at: Instant::now(),
        answer: Answer::Hang,
    };
    Some((told, head.len() + 4 + length))
}

/// What a deployment needs to tell receivers: a configuration file and a secret.
pub struct Hooks {
    file: NamedTempFile,
    /// What is signed with.
    pub secret: String,
}

impl Hooks {
    /// Tells these endpoints; `more` are settings of `[webhooks]`, and of each endpoint.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn new(receivers: &[&Receiver], more: &str, of_each: &str) -> Self {
        let mut text = format!("[webhooks]\n{more}\n");
        for receiver in receivers {
            text += &format!("[[webhooks.endpoints]]\nurl = \"{}\"\n{of_each}\n", receiver.url());
        }
        let file = NamedTempFile::with_suffix(".toml").expect("a file");
        std::fs::write(file.path(), text).expect("a file");
        let random: Vec<u8> = crate::cluster::random_secret().bytes().take(32).collect();
        Self { file, secret: format!("whsec_{}", STANDARD.encode(random)) }
    }

    /// The environment that says so.
    pub fn env(&self) -> Vec<(String, String)> {
        let path = self.file.path().display().to_string();
        vec![("--config".to_owned(), path), ("SIGNALBOX_WEBHOOK_SECRETS".to_owned(), self.secret.clone())]
    }
}
