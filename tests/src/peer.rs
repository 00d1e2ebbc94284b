//! A client that keeps to docs/PROTOCOL.md. A task reads everything at once and checks that `seq` has no gap; the test takes
//! messages out in the order it likes, and comes back with a [`Ticket`] when it wants to.

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
use tokio_tungstenite::tungstenite::Message;

use crate::{
    net::{DEADLINE, eventually, within},
    socket::{self, Refusal, Socket},
    ticket::Ticket,
};

type Sink = Arc<Mutex<SplitSink<Socket, Message>>>;

/// So many entries are confirmed at once (docs/PROTOCOL.md, section 3.3).
const CONFIRM_EVERY: u64 = 64;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The close code; 1006 where there was none.
    pub code: u16,
    /// The close reason.
    pub reason: String,
}

enum Event {
    Frame(Value),
    Fault(String),
    Closed(Closed),
}

/// One connection.
pub struct Link {
    sink: Sink,
    inbox: Mutex<Inbox>,
    reader: JoinHandle<()>,
    next_id: AtomicU64,
    confirms: Arc<AtomicBool>,
}

struct Inbox {
    events: mpsc::UnboundedReceiver<Event>,
    /// Frames that were passed over.
    stash: VecDeque<Value>,
    closed: Option<Closed>,
    /// The last `seq` that came out of `events`.
    seq: u64,
    /// The handle that came with it.
    handle: Option<String>,
}

/// A connection that has joined a room.
pub struct TestPeer {
    link: Link,
    /// The first frame.
    pub joined: Value,
}

/// A forwarded message.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "docs/PROTOCOL.md, section 5")]
pub struct Forwarded {
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
    pub whole: Value,
}

impl Deref for TestPeer {
    type Target = Link;
    fn deref(&self) -> &Link {
        &self.link
    }
}

impl Link {
    /// Connects with a token in the query.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn open(address: SocketAddr, token: &str) -> Self {
        Self::ask_in(address, &format!("token={token}")).await.expect("an upgrade")
    }

    /// Connects with this query.
    ///
    /// # Errors
    /// Where the upgrade is refused.
    pub async fn ask_in(address: SocketAddr, query: &str) -> Result<Self, Refusal> {
        let socket = socket::open(address, query, DEADLINE).await?;
        Ok(Self::over(socket, 1, VecDeque::new()))
    }

    /// A connection that has frames of the one before it to hand out, and goes on with its numbers.
    pub(crate) fn over(socket: Socket, next_id: u64, stash: VecDeque<Value>) -> Self {
        let (sink, stream) = socket.split();
        let (sink, confirms) = (Arc::new(Mutex::new(sink)), Arc::new(AtomicBool::new(true)));
        let (tx, events) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(stream, sink.clone(), confirms.clone(), tx));
        let inbox = Mutex::new(Inbox { events, stash, closed: None, seq: 0, handle: None });
        Self { sink, inbox, reader, next_id: AtomicU64::new(next_id), confirms }
    }

    /// Waits for `joined`.
    ///
    /// # Panics
    /// If something else comes.
    pub async fn into_peer(self) -> TestPeer {
        let joined = self.next().await;
        assert_eq!(joined["type"], "joined", "{joined}");
        TestPeer { link: self, joined }
    }

    /// Waits for `waiting`: the peer is in the lobby. Its id.
    ///
    /// # Panics
    /// If something else comes.
    pub async fn in_lobby(&self) -> String {
        let waiting = self.next().await;
        assert_eq!(waiting["type"], "waiting", "{waiting}");
        waiting["peerId"].as_str().expect("a peerId").to_owned()
    }

    /// The last handle that it was given, and the last `seq` that has come.
    ///
    /// # Panics
    /// If there is none.
    pub async fn handle(&self) -> (String, u64) {
        let mut inbox = self.inbox.lock().await;
        inbox.keep_all();
        (inbox.handle.clone().expect("a handle"), inbox.seq)
    }

    /// Never sends `received` from now on.
    pub fn stay_silent(&self) {
        self.confirms.store(false, Ordering::Relaxed);
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

    /// Sends a text frame, if the connection takes it.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn try_send_text(&self, text: &str) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        self.sink.lock().await.send(Message::text(text)).await
    }

    /// The next id to use.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a message under a new id and waits for its `ack` or `error`.
    pub async fn ask(&self, mut message: Value) -> Value {
        let id = self.next_id();
        message["id"] = id.into();
        self.send(message).await;
        self.answer(id).await
    }

    /// Waits for the `ack` or `error` of an id.
    pub async fn answer(&self, id: u64) -> Value {
        let kinds = ["ack", "error"].map(Value::from);
        self.next_where(&format!("an answer to {id}"), |frame| {
            frame["id"] == id && kinds.contains(&frame["type"])
        })
        .await
    }

    /// Waits for the `error` that answers this message without an id.
    pub async fn refused(&self, message: Value) -> Value {
        self.send(message).await;
        self.next_of_type("error").await
    }

    /// The next frame of any type.
    pub async fn next(&self) -> Value {
        self.next_where("a frame", |_| true).await
    }

    /// The next frame of this type; what comes before it is kept for later.
    pub async fn next_of_type(&self, kind: &str) -> Value {
        self.next_where(kind, |frame| frame["type"] == kind).await
    }

    /// The next frame that fits; what comes before it is kept for later.
    ///
    /// # Panics
    /// If none comes in time, the connection closes before it, or `seq` has a gap.
    pub async fn next_where(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut inbox = self.inbox.lock().await;
        if let Some(place) = inbox.stash.iter().position(&fits) {
            return inbox.stash.remove(place).expect("a stashed frame");
        }
        assert!(inbox.closed.is_none(), "waiting for {what}: {:?}", inbox.closed);
        let wait = async {
            loop {
                let event = inbox.events.recv().await.expect("the reading task");
                match inbox.take(event) {
                    Some(frame) if fits(&frame) => return frame,
                    Some(frame) => inbox.stash.push_back(frame),
                    None => panic!("waiting for {what}: {:?}; before: {:?}", inbox.closed, inbox.stash),
                }
            }
        };
        match tokio::time::timeout(DEADLINE, wait).await {
            Ok(frame) => frame,
            Err(_) => panic!("{what}: did not come within {DEADLINE:?}; what came: {:?}", inbox.stash),
        }
    }

    /// The next forwarded message of this type.
    ///
    /// # Panics
    /// If it does not have the members of one.
    pub async fn next_forwarded(&self, kind: &str) -> Forwarded {
        let whole = self.next_of_type(kind).await;
        assert!(whole.get("to").is_none(), "{whole}");
        let forwarded: Forwarded = serde_json::from_value(whole.clone()).expect("a forwarded message");
        Forwarded { whole, ..forwarded }
    }

    /// The next offer.
    pub async fn next_offer(&self) -> Forwarded {
        self.next_forwarded("offer").await
    }

    /// The next application message.
    pub async fn next_message(&self) -> Forwarded {
        self.next_forwarded("message").await
    }

    /// Waits for the end of the connection; frames that come before it are kept.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn closed(&self) -> Closed {
        let mut inbox = self.inbox.lock().await;
        let wait = async {
            while inbox.closed.is_none() {
                let event = inbox.events.recv().await.expect("the reading task");
                inbox.keep(event);
            }
            inbox.closed.clone().expect("just set")
        };
        within("the close", wait).await
    }

    /// Every frame that has come and was not taken.
    pub async fn rest(&self) -> Vec<Value> {
        let mut inbox = self.inbox.lock().await;
        inbox.keep_all();
        inbox.stash.drain(..).collect()
    }

    /// The last `seq` that has come.
    pub async fn seq(&self) -> u64 {
        let mut inbox = self.inbox.lock().await;
        inbox.keep_all();
        inbox.seq
    }

    /// Asks for a `pong`: everything sent before has been read by the server, and its answers to it have come.
    pub async fn ping(&self) {
        let id = self.next_id();
        self.send(json!({"type": "ping", "id": id})).await;
        self.next_where("pong", |frame| frame["type"] == "pong" && frame["id"] == id).await;
    }
}

impl Inbox {
    /// What an event brings: a frame, or none at the end of the connection.
    fn take(&mut self, event: Event) -> Option<Value> {
        match event {
            Event::Frame(frame) => {
                self.seq = frame["seq"].as_u64().unwrap_or(self.seq);
                if let Some(handle) = frame["resume"].as_str() {
                    self.handle = Some(handle.to_owned());
                }
                Some(frame)
            }
            Event::Fault(fault) => panic!("{fault}"),
            Event::Closed(closed) => {
                self.closed = Some(closed);
                None
            }
        }
    }

    fn keep(&mut self, event: Event) {
        let frame = self.take(event);
        self.stash.extend(frame);
    }

    fn keep_all(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.keep(event);
        }
    }
}

impl TestPeer {
    pub(crate) fn over(link: Link, joined: Value) -> Self {
        Self { link, joined }
    }

    /// What it needs to come back, as of now.
    ///
    /// # Panics
    /// If the server offers no coming back.
    pub async fn ticket(&self) -> Ticket {
        let mut inbox = self.inbox.lock().await;
        inbox.keep_all();
        Ticket {
            peer_id: self.id().to_owned(),
            handle: inbox.handle.clone().expect("a handle in joined.resume"),
            since: inbox.seq,
            next_id: self.next_id.load(Ordering::Relaxed),
            unread: inbox.stash.clone(),
        }
    }

    /// Loses the socket without a word; what it needs to come back.
    pub async fn lose(mut self) -> Ticket {
        self.link.reader.abort();
        // It confirms nothing any more that is not in the ticket.
        let _ = (&mut self.link.reader).await;
        self.ticket().await
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.joined["peerId"].as_str().expect("a peerId")
    }

    /// Sends a message that must be acknowledged; returns its id.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn must(&self, message: Value) -> u64 {
        let answer = self.ask(message).await;
        assert_eq!(answer["type"], "ack", "{answer}");
        answer["id"].as_u64().expect("an id")
    }

    /// Sends a message under one id until it is acknowledged, as docs/PROTOCOL.md, section 3.2, has it after `unavailable`.
    ///
    /// # Panics
    /// If it is refused for another reason, or not taken in time.
    pub async fn insist(&self, mut message: Value) -> Value {
        let id = self.next_id();
        message["id"] = id.into();
        eventually("the message is taken", async || {
            self.send(message.clone()).await;
            let answer = self.answer(id).await;
            assert!(answer["type"] == "ack" || answer["code"] == "unavailable", "{answer}");
            (answer["type"] == "ack").then_some(answer)
        })
        .await
    }

    /// Sends an offer.
    pub async fn offer(&self, to: &Self, sdp: &str) -> u64 {
        self.must(json!({"type": "offer", "to": to.id(), "sdp": sdp})).await
    }

    /// Sends a candidate that belongs to an offer.
    pub async fn candidate(&self, to: &Self, candidate: Value, re: u64) -> u64 {
        self.must(json!({"type": "candidate", "to": to.id(), "candidate": candidate, "re": re})).await
    }

    /// Sends an application message to one peer.
    pub async fn message(&self, to: &Self, data: Value) -> u64 {
        self.must(json!({"type": "message", "to": to.id(), "data": data})).await
    }

    /// Sends an application message to the room.
    pub async fn tell_room(&self, data: Value) -> u64 {
        self.must(json!({"type": "message", "data": data})).await
    }

    /// Leaves as the protocol says.
    ///
    /// # Panics
    /// If it is not acknowledged and closed with 1000.
    pub async fn leave(self) {
        self.must(json!({"type": "leave"})).await;
        assert_eq!(self.closed().await, Closed { code: 1000, reason: "left".to_owned() });
    }

    /// Loses the socket without a word.
    pub fn cut(self) {
        drop(self);
    }

    /// Closes the socket as a browser does when its page goes: with a close frame, without `leave`.
    pub async fn close(self) {
        // The server may be faster.
        let _ = self.sink.lock().await.close().await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(
    mut stream: SplitStream<Socket>,
    sink: Sink,
    confirms: Arc<AtomicBool>,
    events: mpsc::UnboundedSender<Event>,
) {
    let mut last = 0;
    let mut closed = Closed { code: 1006, reason: String::new() };
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Text(text) => {
                let event = frame(&text, &mut last);
                let is_entry =
                    matches!(&event, Event::Frame(frame) if !is_first(frame) && frame.get("seq").is_some());
                // The test may have ended.
                let _ = events.send(event);
                if is_entry && last % CONFIRM_EVERY == 0 && confirms.load(Ordering::Relaxed) {
                    let text = json!({"type": "received", "seq": last}).to_string();
                    let _ = sink.lock().await.send(Message::text(text)).await;
                }
            }
            Message::Close(Some(frame)) => {
                closed = Closed { code: frame.code.into(), reason: frame.reason.to_string() };
            }
            _ => {}
        }
    }
    let _ = events.send(Event::Closed(closed));
}

fn frame(text: &str, last: &mut u64) -> Event {
    let Ok(frame) = serde_json::from_str::<Value>(text) else {
        return Event::Fault(format!("not JSON: {text}"));
    };
    if let Some(seq) = frame["seq"].as_u64() {
        if !is_first(&frame) && seq != *last + 1 {
            return Event::Fault(format!("a gap or a double: seq {seq} after {last}: {frame}"));
        }
        *last = seq;
    }
    Event::Frame(frame)
}

/// A frame after which numbers begin anew.
fn is_first(frame: &Value) -> bool {
    ["joined", "resumed", "waiting"].iter().any(|first| frame["type"] == *first)
}
