//! An HTTP server that receives webhooks and replies as a test decides: with success, an error, a
//! delay or not at all.

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

/// How the receiver replies to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookReply {
    /// Replies with this status.
    Status(u16),
    /// Replies with 503 and this `Retry-After`, in seconds.
    RetryAfter(u64),
    /// Replies with 200 after this time.
    Delayed(Duration),
    /// Sends no reply.
    NoReply,
    /// Closes the connection.
    Disconnect,
    /// Replies with 200 and a body that is longer than the sender reads.
    LargeBody,
    /// Redirects to this URL.
    Redirect(String),
}

/// One request.
#[derive(Debug, Clone)]
pub struct WebhookRequest {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: u64,
    /// `webhook-signature`.
    pub signature: String,
    /// The body as it came.
    pub body: String,
    /// The body as JSON.
    pub event: Value,
    /// When the request came.
    pub received_at: Instant,
    /// The reply to the request.
    pub reply: WebhookReply,
}

impl WebhookRequest {
    /// `event`, `room` and, if there is one, `userId`.
    pub fn summary(&self) -> String {
        let text = |name: &str| self.event[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("event"), text("room"), text("userId")).trim().to_owned()
    }

    /// Whether the reply accepted the event.
    pub fn is_accepted(&self) -> bool {
        matches!(
            self.reply,
            WebhookReply::Status(200..=299) | WebhookReply::LargeBody | WebhookReply::Delayed(_)
        )
    }
}

type ReplyRule = dyn Fn(&WebhookRequest, &[WebhookRequest]) -> WebhookReply + Send + Sync;

/// A receiver on its own port.
pub struct WebhookReceiver {
    /// The address on which it listens.
    pub address: SocketAddr,
    state: Arc<ReceiverState>,
    task: AbortHandle,
}

struct ReceiverState {
    requests: Mutex<Vec<WebhookRequest>>,
    reply_rule: Mutex<Arc<ReplyRule>>,
}

impl ReceiverState {
    fn requests(&self) -> MutexGuard<'_, Vec<WebhookRequest>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WebhookReceiver {
    /// Starts a receiver. `reply_rule` decides each reply from the request and the requests before
    /// it.
    ///
    /// # Panics
    /// If the receiver cannot listen.
    pub async fn start(
        reply_rule: impl Fn(&WebhookRequest, &[WebhookRequest]) -> WebhookReply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let reply_rule: Arc<ReplyRule> = Arc::new(reply_rule);
        let state =
            Arc::new(ReceiverState { requests: Mutex::default(), reply_rule: Mutex::new(reply_rule) });
        let serving = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, serving.clone()));
            }
        });
        Self { address, state, task: task.abort_handle() }
    }

    /// Starts a receiver that accepts every event.
    pub async fn accepting() -> Self {
        Self::start(|_, _| WebhookReply::Status(204)).await
    }

    /// Sets how the receiver replies from now on.
    pub fn set_reply(
        &self,
        reply_rule: impl Fn(&WebhookRequest, &[WebhookRequest]) -> WebhookReply + Send + Sync + 'static,
    ) {
        *self.state.reply_rule.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(reply_rule);
    }

    /// All requests.
    pub fn requests(&self) -> Vec<WebhookRequest> {
        self.state.requests().clone()
    }

    /// The accepted events, each once, in the order in which they were first accepted.
    pub fn accepted_events(&self) -> Vec<WebhookRequest> {
        let mut accepted: Vec<WebhookRequest> = Vec::new();
        for request in self.requests() {
            if request.is_accepted() && accepted.iter().all(|other| other.id != request.id) {
                accepted.push(request);
            }
        }
        accepted
    }

    /// Waits until this number of events is accepted.
    ///
    /// # Panics
    /// If the events do not come in time.
    pub async fn wait_for_events(&self, limit: Duration, count: usize) -> Vec<WebhookRequest> {
        eventually_within(limit, &format!("{count} events are accepted"), async || {
            Some(self.accepted_events()).filter(|accepted| accepted.len() >= count)
        })
        .await
    }

    /// The URL of the receiver.
    pub fn url(&self) -> String {
        format!("http://{}/hooks?from=signalbox", self.address)
    }
}

impl Drop for WebhookReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut socket: TcpStream, state: Arc<ReceiverState>) {
    let mut bytes = Vec::new();
    while let Some(request) = read(&mut socket, &mut bytes).await {
        let reply_rule = state.reply_rule.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reply = {
            let mut all = state.requests();
            let reply = reply_rule(&request, &all);
            all.push(WebhookRequest { reply: reply.clone(), ..request });
            reply
        };
        let text = match &reply {
            WebhookReply::Status(status) => format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"),
            WebhookReply::RetryAfter(s) => {
                format!("HTTP/1.1 503 X\r\nRetry-After: {s}\r\nContent-Length: 0\r\n\r\n")
            }
            WebhookReply::Delayed(pause) => {
                tokio::time::sleep(*pause).await;
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()
            }
            WebhookReply::NoReply => return std::future::pending().await,
            WebhookReply::Disconnect => return,
            WebhookReply::LargeBody => {
                format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000))
            }
            WebhookReply::Redirect(to) => {
                format!("HTTP/1.1 307 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
            }
        };
        if socket.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<WebhookRequest> {
    loop {
        if let Some((request, used)) = parse(bytes) {
            bytes.drain(..used);
            return Some(request);
        }
        let mut chunk = [0; 4096];
        match socket.read(&mut chunk).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(WebhookRequest, usize)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: usize = header("content-length")?.parse().ok()?;
    let body = rest.get(..length)?.to_owned();
    assert_eq!(header("content-type").as_deref(), Some("application/json"), "{head}");
    let request = WebhookRequest {
        id: header("webhook-id").expect("webhook-id"),
        timestamp: header("webhook-timestamp").and_then(|text| text.parse().ok()).expect("webhook-timestamp"),
        signature: header("webhook-signature").expect("webhook-signature"),
        event: serde_json::from_str(&body).expect("JSON"),
        body,
        received_at: Instant::now(),
        reply: WebhookReply::NoReply,
    };
    Some((request, head.len() + 4 + length))
}

/// A configuration file and a secret for a deployment that sends webhooks.
pub struct WebhookConfig {
    file: NamedTempFile,
    /// The secret that signs webhooks.
    pub secret: String,
}

impl WebhookConfig {
    /// Configures these receivers as endpoints. `more` are settings of `[webhooks]`, `of_each` are
    /// settings of each endpoint.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn new(receivers: &[&WebhookReceiver], webhook_settings: &str, endpoint_settings: &str) -> Self {
        let mut text = format!("[webhooks]\n{webhook_settings}\n");
        for receiver in receivers {
            text += &format!("[[webhooks.endpoints]]\nurl = \"{}\"\n{endpoint_settings}\n", receiver.url());
        }
        let file = NamedTempFile::with_suffix(".toml").expect("a file");
        std::fs::write(file.path(), text).expect("a file");
        let hex = crate::cluster::random_secret();
        let random: Vec<u8> = (0..hex.len() / 2)
            .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).expect("hexadecimal"))
            .collect();
        Self { file, secret: format!("whsec_{}", STANDARD.encode(random)) }
    }

    /// The environment of the deployment.
    pub fn env(&self) -> Vec<(String, String)> {
        let path = self.file.path().display().to_string();
        vec![("--config".to_owned(), path), ("SIGNALBOX_WEBHOOK_SECRETS".to_owned(), self.secret.clone())]
    }
}
