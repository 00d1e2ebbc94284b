//! A client that follows docs/PROTOCOL.md. A task reads every frame at once and checks that `seq`
//! has no gap. The test takes frames in any order, and resumes with a [`ResumeState`].

use std::{
    collections::VecDeque,
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

use crate::{
    net::{DEADLINE, eventually, within},
    process::Process,
    socket::{self, Socket, UpgradeError},
};

type SharedSink = Arc<Mutex<SplitSink<Socket, Message>>>;

/// How many entries are confirmed at once (docs/PROTOCOL.md, section 3.3).
const CONFIRM_EVERY: u64 = 64;

/// How a connection was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseStatus {
    /// The close code; 1006 if the server sent none.
    pub code: u16,
    /// The close reason.
    pub reason: String,
}

enum ReaderEvent {
    Frame(Value),
    ProtocolViolation(String),
    Closed(CloseStatus),
}

/// One WebSocket connection.
pub struct TestConnection {
    sink: SharedSink,
    queue: Mutex<FrameQueue>,
    reader: JoinHandle<()>,
    next_id: AtomicU64,
    sends_confirms: Arc<AtomicBool>,
}

struct FrameQueue {
    events: mpsc::UnboundedReceiver<ReaderEvent>,
    /// Frames that came before the frame that the test waited for.
    skipped: VecDeque<Value>,
    closed: Option<CloseStatus>,
    /// The last `seq` that was read from `events`.
    seq: u64,
    /// The last handle that was read from `events`.
    handle: Option<String>,
}

/// A connection that has joined a room.
pub struct TestPeer {
    connection: TestConnection,
    /// The first frame: `joined` or `resumed`.
    pub joined: Value,
}

/// A forwarded message.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "docs/PROTOCOL.md, section 5")]
pub struct ForwardedMessage {
    pub seq: u64,
    pub from: String,
    pub id: Option<u64>,
    pub re: Option<u64>,
    pub sdp: Option<String>,
    pub candidate: Option<Value>,
    pub data: Option<Value>,
    #[serde(default)]
    pub room: bool,
    #[serde(skip)]
    pub frame: Value,
}

impl Deref for TestPeer {
    type Target = TestConnection;
    fn deref(&self) -> &TestConnection {
        &self.connection
    }
}

impl TestConnection {
    /// Connects with a token in the query.
    ///
    /// # Panics
    /// If the upgrade is rejected.
    pub async fn open(address: SocketAddr, token: &str) -> Self {
        Self::open_with(address, &format!("token={token}")).await.expect("an upgrade")
    }

    /// Connects with this query.
    ///
    /// # Errors
    /// If the upgrade is rejected.
    pub async fn open_with(address: SocketAddr, query: &str) -> Result<Self, UpgradeError> {
        let socket = socket::open(address, query, DEADLINE).await?;
        Ok(Self::from_socket(socket, 1, VecDeque::new()))
    }

    /// A connection that continues an older one: with its unread frames and its message ids.
    pub(crate) fn from_socket(socket: Socket, next_id: u64, skipped: VecDeque<Value>) -> Self {
        let (sink, stream) = socket.split();
        let (sink, sends_confirms) = (Arc::new(Mutex::new(sink)), Arc::new(AtomicBool::new(true)));
        let (tx, events) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read_frames(stream, sink.clone(), sends_confirms.clone(), tx));
        let queue = Mutex::new(FrameQueue { events, skipped, closed: None, seq: 0, handle: None });
        Self { sink, queue, reader, next_id: AtomicU64::new(next_id), sends_confirms }
    }

    /// Waits for `joined`; in the lobby, moderators may come and leave before.
    ///
    /// # Panics
    /// If another frame comes first.
    pub async fn into_peer(self) -> TestPeer {
        let mut joined = self.next().await;
        while joined["type"] == "lobby-updated" {
            joined = self.next().await;
        }
        assert_eq!(joined["type"], "joined", "{joined}");
        TestPeer { connection: self, joined }
    }

    /// Waits for `waiting`: the peer is in the lobby. Returns the peerId.
    ///
    /// # Panics
    /// If another frame comes first.
    pub async fn expect_waiting(&self) -> String {
        let waiting = self.next().await;
        assert_eq!(waiting["type"], "waiting", "{waiting}");
        waiting["peerId"].as_str().expect("a peerId").to_owned()
    }

    /// The last handle that the peer received, and its last `seq`.
    ///
    /// # Panics
    /// If there is no handle.
    pub async fn handle(&self) -> (String, u64) {
        let mut queue = self.queue.lock().await;
        queue.store_all();
        (queue.handle.clone().expect("a handle"), queue.seq)
    }

    /// Stops sending `received`.
    pub fn stop_confirming(&self) {
        self.sends_confirms.store(false, Ordering::Relaxed);
    }

    /// Sends a message as it is.
    pub async fn send(&self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    /// Sends a text frame.
    ///
    /// # Panics
    /// If the connection is closed.
    pub async fn send_text(&self, text: &str) {
        within("sending", self.try_send_text(text)).await.expect("an open connection");
    }

    /// Sends a text frame, if the connection is open.
    ///
    /// # Errors
    /// If the connection is closed.
    pub async fn try_send_text(&self, text: &str) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        self.sink.lock().await.send(Message::text(text)).await
    }

    /// Takes the next message id.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a message with a new id and waits for its `ack` or `error`.
    pub async fn request(&self, mut message: Value) -> Value {
        let id = self.next_id();
        message["id"] = id.into();
        self.send(message).await;
        self.reply_to(id).await
    }

    /// Waits for the `ack` or `error` of an id.
    pub async fn reply_to(&self, id: u64) -> Value {
        let kinds = ["ack", "error"].map(Value::from);
        self.next_where(&format!("the reply to {id}"), |frame| {
            frame["id"] == id && kinds.contains(&frame["type"])
        })
        .await
    }

    /// Sends a message without an id and waits for an `error`.
    pub async fn expect_error(&self, message: Value) -> Value {
        self.send(message).await;
        self.next_of_type("error").await
    }

    /// The next frame of any type.
    pub async fn next(&self) -> Value {
        self.next_where("a frame", |_| true).await
    }

    /// The next frame of this type. Earlier frames of other types are kept.
    pub async fn next_of_type(&self, kind: &str) -> Value {
        self.next_where(kind, |frame| frame["type"] == kind).await
    }

    /// The next frame that matches. Earlier frames are kept.
    ///
    /// # Panics
    /// If none comes in time, the connection closes, or `seq` has a gap.
    pub async fn next_where(&self, description: &str, matches_frame: impl Fn(&Value) -> bool) -> Value {
        let mut queue = self.queue.lock().await;
        if let Some(index) = queue.skipped.iter().position(&matches_frame) {
            return queue.skipped.remove(index).expect("a skipped frame");
        }
        assert!(queue.closed.is_none(), "waiting for {description}: {:?}", queue.closed);
        let wait = async {
            loop {
                let event = queue.events.recv().await.expect("the reader task");
                match queue.read_event(event) {
                    Some(frame) if matches_frame(&frame) => return frame,
                    Some(frame) => queue.skipped.push_back(frame),
                    None => panic!(
                        "waiting for {description}: {:?}; frames before: {:?}",
                        queue.closed, queue.skipped
                    ),
                }
            }
        };
        match tokio::time::timeout(DEADLINE, wait).await {
            Ok(frame) => frame,
            Err(_) => panic!(
                "{description}: did not come within {DEADLINE:?}; frames that came: {:?}",
                queue.skipped
            ),
        }
    }

    /// The next forwarded message of this type.
    ///
    /// # Panics
    /// If the frame is not a forwarded message.
    pub async fn next_forwarded(&self, kind: &str) -> ForwardedMessage {
        let frame = self.next_of_type(kind).await;
        assert!(frame.get("to").is_none(), "{frame}");
        let forwarded: ForwardedMessage = serde_json::from_value(frame.clone()).expect("a forwarded message");
        ForwardedMessage { frame, ..forwarded }
    }

    /// The next offer.
    pub async fn next_offer(&self) -> ForwardedMessage {
        self.next_forwarded("offer").await
    }

    /// The next application message.
    pub async fn next_message(&self) -> ForwardedMessage {
        self.next_forwarded("message").await
    }

    /// Waits for the end of the connection. Frames that come before it are kept.
    ///
    /// # Panics
    /// If the connection does not end in time.
    pub async fn wait_closed(&self) -> CloseStatus {
        let mut queue = self.queue.lock().await;
        let wait = async {
            while queue.closed.is_none() {
                let event = queue.events.recv().await.expect("the reader task");
                queue.store_event(event);
            }
            queue.closed.clone().expect("just set")
        };
        within("the close", wait).await
    }

    /// Takes every frame that has come and that the test has not read.
    pub async fn take_unread(&self) -> Vec<Value> {
        let mut queue = self.queue.lock().await;
        queue.store_all();
        queue.skipped.drain(..).collect()
    }

    /// The last `seq` that has come.
    pub async fn seq(&self) -> u64 {
        let mut queue = self.queue.lock().await;
        queue.store_all();
        queue.seq
    }

    /// Waits for a `pong`. Then the server has read all earlier messages, and its answers have
    /// come.
    pub async fn ping(&self) {
        let id = self.next_id();
        self.send(json!({"type": "ping", "id": id})).await;
        self.next_where("pong", |frame| frame["type"] == "pong" && frame["id"] == id).await;
    }
}

impl FrameQueue {
    /// The frame of an event; `None` at the end of the connection.
    fn read_event(&mut self, event: ReaderEvent) -> Option<Value> {
        match event {
            ReaderEvent::Frame(frame) => {
                self.seq = frame["seq"].as_u64().unwrap_or(self.seq);
                if let Some(handle) = frame["resume"].as_str() {
                    self.handle = Some(handle.to_owned());
                }
                Some(frame)
            }
            ReaderEvent::ProtocolViolation(violation) => panic!("{violation}"),
            ReaderEvent::Closed(closed) => {
                self.closed = Some(closed);
                None
            }
        }
    }

    fn store_event(&mut self, event: ReaderEvent) {
        let frame = self.read_event(event);
        self.skipped.extend(frame);
    }

    fn store_all(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.store_event(event);
        }
    }
}

impl TestPeer {
    pub(crate) fn from_connection(connection: TestConnection, joined: Value) -> Self {
        Self { connection, joined }
    }

    /// The state that a resume needs now.
    ///
    /// # Panics
    /// If the server gave no handle.
    pub async fn resume_state(&self) -> ResumeState {
        let mut queue = self.queue.lock().await;
        queue.store_all();
        ResumeState {
            peer_id: self.id().to_owned(),
            handle: queue.handle.clone().expect("a handle in joined.resume"),
            since: queue.seq,
            next_id: self.next_id.load(Ordering::Relaxed),
            unread: queue.skipped.clone(),
        }
    }

    /// Drops the socket without a close frame. Returns the state that a resume needs.
    pub async fn disconnect(mut self) -> ResumeState {
        self.connection.reader.abort();
        // The reader must not confirm entries that are not part of the state.
        let _ = (&mut self.connection.reader).await;
        self.resume_state().await
    }

    /// The peerId.
    pub fn id(&self) -> &str {
        self.joined["peerId"].as_str().expect("a peerId")
    }

    /// Sends a message that must be acknowledged, and returns its id.
    ///
    /// # Panics
    /// If the message is rejected.
    pub async fn send_acked(&self, message: Value) -> u64 {
        let reply = self.request(message).await;
        assert_eq!(reply["type"], "ack", "{reply}");
        reply["id"].as_u64().expect("an id")
    }

    /// Sends a message under the same id until it is acknowledged, as docs/PROTOCOL.md, section
    /// 3.2, requires after `unavailable`.
    ///
    /// # Panics
    /// If the message is rejected with another code, or not acknowledged in time.
    pub async fn send_until_acked(&self, mut message: Value) -> Value {
        let id = self.next_id();
        message["id"] = id.into();
        eventually("the message is acknowledged", async || {
            self.send(message.clone()).await;
            let reply = self.reply_to(id).await;
            assert!(reply["type"] == "ack" || reply["code"] == "unavailable", "{reply}");
            (reply["type"] == "ack").then_some(reply)
        })
        .await
    }

    /// Sends an offer.
    pub async fn offer(&self, to: &Self, sdp: &str) -> u64 {
        self.send_acked(json!({"type": "offer", "to": to.id(), "sdp": sdp})).await
    }

    /// Sends a candidate that belongs to an offer.
    pub async fn candidate(&self, to: &Self, candidate: Value, re: u64) -> u64 {
        self.send_acked(json!({"type": "candidate", "to": to.id(), "candidate": candidate, "re": re})).await
    }

    /// Sends an application message to one peer.
    pub async fn message(&self, to: &Self, data: Value) -> u64 {
        self.send_acked(json!({"type": "message", "to": to.id(), "data": data})).await
    }

    /// Sends an application message to the room.
    pub async fn message_room(&self, data: Value) -> u64 {
        self.send_acked(json!({"type": "message", "data": data})).await
    }

    /// Leaves with a `leave` message.
    ///
    /// # Panics
    /// If `leave` is not acknowledged, or the close code is not 1000.
    pub async fn leave(self) {
        self.send_acked(json!({"type": "leave"})).await;
        assert_eq!(self.wait_closed().await, CloseStatus { code: 1000, reason: "left".to_owned() });
    }

    /// Drops the socket without a close frame.
    pub fn drop_socket(self) {
        drop(self);
    }

    /// Closes the socket with a close frame, without `leave`.
    pub async fn close(self) {
        // The server may have closed the socket first.
        let _ = self.sink.lock().await.close().await;
    }
}

impl TestConnection {
    /// Closes the socket with this code.
    pub async fn close_with(&self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        // The server may have closed the socket first.
        let _ = self.sink.lock().await.send(Message::Close(Some(frame))).await;
    }
}

impl Drop for TestConnection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read_frames(
    mut stream: SplitStream<Socket>,
    sink: SharedSink,
    confirms: Arc<AtomicBool>,
    events: mpsc::UnboundedSender<ReaderEvent>,
) {
    let mut last = 0;
    let mut closed = CloseStatus { code: 1006, reason: String::new() };
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Text(text) => {
                let event = parse_frame(&text, &mut last);
                let is_entry = matches!(&event, ReaderEvent::Frame(frame) if !is_first_frame(frame) && frame.get("seq").is_some());
                // The test may have ended.
                let _ = events.send(event);
                if is_entry && last % CONFIRM_EVERY == 0 && confirms.load(Ordering::Relaxed) {
                    let text = json!({"type": "received", "seq": last}).to_string();
                    let _ = sink.lock().await.send(Message::text(text)).await;
                }
            }
            Message::Close(Some(frame)) => {
                closed = CloseStatus { code: frame.code.into(), reason: frame.reason.to_string() };
            }
            _ => {}
        }
    }
    let _ = events.send(ReaderEvent::Closed(closed));
}

fn parse_frame(text: &str, last: &mut u64) -> ReaderEvent {
    let Ok(frame) = serde_json::from_str::<Value>(text) else {
        return ReaderEvent::ProtocolViolation(format!("not JSON: {text}"));
    };
    if let Some(seq) = frame["seq"].as_u64() {
        if !is_first_frame(&frame) && seq != *last + 1 {
            return ReaderEvent::ProtocolViolation(format!(
                "a gap or a repeated seq: {seq} after {last}: {frame}"
            ));
        }
        *last = seq;
    }
    ReaderEvent::Frame(frame)
}

/// Whether `seq` starts again with this frame.
fn is_first_frame(frame: &Value) -> bool {
    ["joined", "resumed", "waiting"].iter().any(|first| frame["type"] == *first)
}

/// The state that a client needs for a resume.
#[derive(Debug, Clone)]
pub struct ResumeState {
    /// The peerId.
    pub peer_id: String,
    /// The newest handle.
    pub handle: String,
    /// The last `seq` that the client has received.
    pub since: u64,
    pub(crate) next_id: u64,
    /// Frames that had come and that the test has not read.
    pub(crate) unread: VecDeque<Value>,
}

impl ResumeState {
    /// The query of the resume.
    pub fn query(&self) -> String {
        format!("resume={}&since={}", self.handle, self.since)
    }

    /// Resumes at this address.
    ///
    /// # Errors
    /// If the upgrade is rejected.
    pub async fn try_resume(&self, address: SocketAddr) -> Result<TestConnection, UpgradeError> {
        let socket = socket::open(address, &self.query(), DEADLINE).await?;
        Ok(TestConnection::from_socket(socket, self.next_id, self.unread.clone()))
    }

    /// Resumes through this node.
    ///
    /// # Panics
    /// If the upgrade is rejected, or the first frame is not a `resumed` as docs/PROTOCOL.md,
    /// section 8, requires it.
    pub async fn resume_on(&self, node: &Process) -> TestPeer {
        self.resume_at(node.address).await
    }

    /// Resumes at this address and checks the `resumed` frame.
    ///
    /// # Panics
    /// As [`Self::resume_on`].
    pub async fn resume_at(&self, address: SocketAddr) -> TestPeer {
        let connection =
            self.try_resume(address).await.unwrap_or_else(|error| panic!("no resume: {error:?}"));
        let resumed = connection.next_of_type("resumed").await;
        assert_eq!(resumed["peerId"], *self.peer_id, "{resumed}");
        assert!(resumed["lastId"].is_u64() && resumed["recovered"].is_boolean(), "{resumed}");
        assert!(resumed["resume"].as_str().is_some_and(|handle| handle != self.handle), "{resumed}");
        if resumed["recovered"] == true {
            assert_eq!(resumed["seq"], self.since, "{resumed}");
        }
        TestPeer::from_connection(connection, resumed)
    }

    /// Joins as a new peer that replaces the old one, as a reloaded page does.
    ///
    /// # Errors
    /// If the upgrade is rejected.
    pub async fn take_over(&self, address: SocketAddr) -> Result<TestConnection, UpgradeError> {
        TestConnection::open_with(address, &format!("resume={}", self.handle)).await
    }
}
