//! The connections of all simulated peers, in one thread.
//!
//! Owns: sockets, the upgrade, framing, batching. One wake-up reads everything that a socket holds
//! with one call, and everything that must be sent to a socket leaves with one call. Must not: know
//! what a message means (`dialect`). Next: a scenario is a [`Handler`].

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    framing::{Framing, Incoming},
    websocket::{PONG, write_frame},
};

/// Connections of one source address. There are 28,000 ports for each, but a port that was used a
/// moment ago may still be blocked.
const PEERS_PER_SOURCE: usize = 5_000;

/// How many bytes one call reads.
const READ_SIZE: usize = 256 * 1024;

/// What a scenario does when something happens. It acts through `swarm`.
pub trait Handler {
    /// The connection is open: the `101` has arrived.
    fn on_open(&mut self, swarm: &mut Swarm, peer: usize);
    /// A message has arrived.
    fn on_text(&mut self, swarm: &mut Swarm, peer: usize, payload: &[u8]);
    /// The connection has ended, with the reason.
    fn on_closed(&mut self, _swarm: &mut Swarm, peer: usize, reason: &str) {
        eprintln!("the connection of peer {peer} has ended: {reason}");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Upgrading,
    Open,
    Closed,
}

struct Connection {
    socket: TcpStream,
    phase: Phase,
    input: Vec<u8>,
    output: Vec<u8>,
    is_writable: bool,
    is_dirty: bool,
}

/// All connections. A peer is known by its index.
pub struct Swarm {
    framing: Framing,
    poll: Poll,
    events: Option<Events>,
    connections: Vec<Option<Connection>>,
    dirty: Vec<usize>,
    read_buffer: Vec<u8>,
    scratch: Vec<u8>,
    opened: usize,
}

impl Swarm {
    /// No connections yet; all will have this framing.
    pub fn new(framing: Framing) -> Result<Self> {
        Ok(Self {
            framing,
            poll: Poll::new()?,
            events: Some(Events::with_capacity(1024)),
            connections: Vec::new(),
            dirty: Vec::new(),
            read_buffer: vec![0; READ_SIZE],
            scratch: Vec::with_capacity(4096),
            opened: 0,
        })
    }

    /// Begins the connection of a peer. `path` is the request target of the upgrade, or without an
    /// upgrade the first bytes.
    pub fn connect(&mut self, peer: usize, address: SocketAddr, path: &str) -> Result<()> {
        let source = source_address(self.opened);
        self.opened += 1;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // A reset at the end leaves no port in TIME_WAIT.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.bind(&SocketAddr::from(source).into()).with_context(|| format!("bind {source}"))?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            // EINPROGRESS has no kind of its own.
            Err(error) if error.raw_os_error() == Some(115) => {}
            Err(error) => return Err(error).with_context(|| format!("connect to {address}")),
        }
        let mut socket = TcpStream::from_std(socket.into());
        self.poll.registry().register(&mut socket, Token(peer), Interest::READABLE | Interest::WRITABLE)?;
        let (phase, greeting) = match self.framing {
            Framing::WebSocket => (Phase::Upgrading, upgrade_request(address, path)),
            Framing::Redis | Framing::Http => (Phase::Open, path.to_owned()),
        };
        let connection = Connection {
            socket,
            phase,
            input: Vec::new(),
            output: greeting.into_bytes(),
            is_writable: false,
            is_dirty: false,
        };
        if self.connections.len() <= peer {
            self.connections.resize_with(peer + 1, || None);
        }
        self.connections[peer] = Some(connection);
        Ok(())
    }

    /// Ends the connection of a peer with a reset.
    pub fn disconnect(&mut self, peer: usize) {
        if let Some(connection) = self.connections.get_mut(peer) {
            *connection = None;
        }
    }

    /// Sends a text message with the next flush.
    pub fn send_text(&mut self, peer: usize, payload: &[u8]) {
        let framing = self.framing;
        self.append(peer, |output| framing.write(output, payload));
    }

    /// Sends a text message that `build` writes.
    pub fn build_text(&mut self, peer: usize, build: impl FnOnce(&mut Vec<u8>)) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        build(&mut scratch);
        self.send_text(peer, &scratch);
        self.scratch = scratch;
    }

    fn append(&mut self, peer: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(Some(connection)) = self.connections.get_mut(peer) else { return };
        write(&mut connection.output);
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(peer);
        }
    }

    /// Writes what waits for the sockets.
    pub fn flush(&mut self) {
        while let Some(peer) = self.dirty.pop() {
            if let Some(Some(connection)) = self.connections.get_mut(peer) {
                connection.is_dirty = false;
                connection.write();
            }
        }
    }

    /// Handles what the sockets have, once. Waits for it at most this long; with zero it never
    /// sleeps.
    pub fn turn(&mut self, wait: Duration, handler: &mut impl Handler) -> Result<()> {
        self.flush();
        let Some(mut events) = self.events.take() else { bail!("a turn within a turn") };
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            let Token(peer) = event.token();
            if event.is_writable()
                && let Some(Some(connection)) = self.connections.get_mut(peer)
            {
                connection.is_writable = true;
                connection.write();
            }
            if event.is_readable() {
                self.read(peer, handler);
            }
        }
        self.events = Some(events);
        self.flush();
        Ok(())
    }

    /// Turns until `is_done`, or fails after `limit`.
    pub fn run_until<H: Handler>(
        &mut self,
        handler: &mut H,
        limit: Duration,
        what: &str,
        mut is_done: impl FnMut(&mut H, &mut Self) -> Result<bool>,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        while !is_done(handler, self)? {
            if Instant::now() > end {
                return Err(anyhow!("not reached within {limit:?}: {what}"));
            }
            self.turn(Duration::from_millis(1), handler)?;
        }
        Ok(())
    }

    /// Turns for this long without ever sleeping.
    pub fn spin_for(&mut self, handler: &mut impl Handler, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(Duration::ZERO, handler)?;
        }
        Ok(())
    }

    fn read(&mut self, peer: usize, handler: &mut impl Handler) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        while let Some(Some(connection)) = self.connections.get_mut(peer) {
            match connection.socket.read(&mut buffer) {
                Ok(0) => {
                    self.close(peer, "end of stream", handler);
                    break;
                }
                Ok(count) => {
                    self.handle_bytes(peer, &buffer[..count], handler);
                    // Less than was asked for: the socket is empty, and epoll tells of more.
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.close(peer, &error.to_string(), handler);
                    break;
                }
            }
        }
        self.read_buffer = buffer;
    }

    fn close(&mut self, peer: usize, reason: &str, handler: &mut impl Handler) {
        let Some(Some(connection)) = self.connections.get_mut(peer) else { return };
        if connection.phase != Phase::Closed {
            connection.phase = Phase::Closed;
            handler.on_closed(self, peer, reason);
        }
    }

    /// Handles the messages in what was left of the last read and in `bytes`.
    fn handle_bytes(&mut self, peer: usize, bytes: &[u8], handler: &mut impl Handler) {
        let Some(Some(connection)) = self.connections.get_mut(peer) else { return };
        let mut left = std::mem::take(&mut connection.input);
        let mut rest = if left.is_empty() {
            bytes
        } else {
            left.extend_from_slice(bytes);
            &left[..]
        };
        if connection.phase == Phase::Upgrading {
            let Some(end) = rest.windows(4).position(|part| part == b"\r\n\r\n") else {
                connection.input = rest.to_vec();
                return;
            };
            let head = &rest[..end];
            if !head.starts_with(b"HTTP/1.1 101") {
                let text = String::from_utf8_lossy(rest).chars().take(400).collect::<String>();
                self.close(peer, &format!("the upgrade was refused: {text}"), handler);
                return;
            }
            connection.phase = Phase::Open;
            rest = &rest[end + 4..];
            handler.on_open(self, peer);
        }
        while let Some((incoming, length)) = self.framing.parse(rest) {
            rest = &rest[length..];
            match incoming {
                Incoming::Message(payload) => handler.on_text(self, peer, payload),
                Incoming::Ping(payload) => self.append(peer, |output| write_frame(output, PONG, payload)),
                Incoming::Close(reason) => {
                    let reason = String::from_utf8_lossy(reason);
                    self.close(peer, &format!("closed by the server: {reason}"), handler);
                }
                Incoming::Nothing => {}
            }
        }
        if !rest.is_empty()
            && let Some(Some(connection)) = self.connections.get_mut(peer)
        {
            connection.input = rest.to_vec();
        }
    }
}

impl Connection {
    fn write(&mut self) {
        let mut written = 0;
        while self.is_writable && written < self.output.len() {
            match self.socket.write(&self.output[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The next read reports any other error.
                Err(_) => self.is_writable = false,
            }
        }
        self.output.drain(..written);
        if self.output.is_empty() && self.output.capacity() > 16 * 1024 {
            self.output = Vec::new();
        }
    }
}

fn upgrade_request(address: SocketAddr, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Loopback has 16 million addresses, so ports never run out.
fn source_address(opened: usize) -> SocketAddrV4 {
    let number = 1 + (opened / PEERS_PER_SOURCE) as u32;
    SocketAddrV4::new(Ipv4Addr::from(0x7f01_0000 + number), 0)
}
