//! A TCP proxy that breaks connections: between clients and a node, or between a node and its
//! Redis.
//!
//! Owns: the sockets of both sides. Must not: know the data, with one exception. The `resumed`
//! frame of a resume (docs/PROTOCOL.md, section 3) can be dropped on the way.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::{
    first_frame::{FirstFrame, FrameKind},
    net::free_address,
};

/// A direction of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
    /// Both directions.
    Both,
}

/// How new connections are handled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NewConnections {
    /// The connection is forwarded.
    #[default]
    Forward,
    /// The connection is reset.
    Reset,
    /// The connection is accepted, and all data is dropped.
    Blackhole,
}

/// The fault at a `resumed` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumedFault {
    /// The connection is cut, and the frame is dropped.
    CutBefore,
    /// The frame is forwarded, and then the connection is cut.
    CutAfter,
}

/// The faults of one connection.
#[derive(Debug, Clone, Copy, Default)]
struct ConnectionFaults {
    drops_to_server: bool,
    drops_to_client: bool,
    cut: bool,
}

#[derive(Debug, Default)]
struct ProxyState {
    upstream: Option<SocketAddr>,
    new_connections: NewConnections,
    delay: Duration,
    resumed_fault: Option<ResumedFault>,
    /// The text of the request whose answer is to be lost.
    unanswered_request: Option<String>,
    last_number: u64,
    connections: BTreeMap<u64, watch::Sender<ConnectionFaults>>,
    resumed_cuts: usize,
}

impl ProxyState {
    /// Makes the connections half-open if these bytes are the request whose answer is to be lost.
    fn lose_answer(&mut self, request: &[u8]) {
        let is_chosen = |text: &String| request.windows(text.len()).any(|part| part == text.as_bytes());
        if self.unanswered_request.take_if(|text| is_chosen(text)).is_some() {
            for faults in self.connections.values() {
                faults.send_modify(|faults| faults.drops_to_client = true);
            }
        }
    }
}

/// A running proxy. It ends, and resets all its connections, when it is dropped.
pub struct FaultProxy {
    /// The address on which it listens.
    pub address: SocketAddr,
    // A std mutex: held for a few instructions.
    state: Arc<Mutex<ProxyState>>,
    task: AbortHandle,
}

fn lock(state: &Mutex<ProxyState>) -> MutexGuard<'_, ProxyState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultProxy {
    /// Starts a proxy that forwards to this address.
    ///
    /// # Panics
    /// If the port is taken.
    pub async fn start(upstream: SocketAddr) -> Self {
        let address = free_address();
        let listener = TcpListener::bind(address).await.expect("a free port");
        let state = Arc::new(Mutex::new(ProxyState { upstream: Some(upstream), ..ProxyState::default() }));
        let task = tokio::spawn(accept(listener, state.clone())).abort_handle();
        Self { address, state, task }
    }

    /// Forwards new connections to another address.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        lock(&self.state).upstream = Some(upstream);
    }

    /// Sets how new connections are handled.
    pub fn set_new_connections(&self, mode: NewConnections) {
        lock(&self.state).new_connections = mode;
    }

    /// Delays each piece of data by this time.
    pub fn set_delay(&self, delay: Duration) {
        lock(&self.state).delay = delay;
    }

    /// Sets the fault at each `resumed` from now on.
    pub fn set_resumed_fault(&self, fault: Option<ResumedFault>) {
        lock(&self.state).resumed_fault = fault;
    }

    /// Loses the answer to the next request that contains this text, and all later data to the client
    /// on the connections that are open then: they become half-open.
    pub fn lose_answer_to(&self, text: impl Into<String>) {
        lock(&self.state).unanswered_request = Some(text.into());
    }

    /// Whether the answer of [`lose_answer_to`](Self::lose_answer_to) was lost.
    pub fn has_lost_answer(&self) -> bool {
        lock(&self.state).unanswered_request.is_none()
    }

    /// How many connections were cut at their `resumed`.
    pub fn resumed_cuts(&self) -> usize {
        lock(&self.state).resumed_cuts
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        lock(&self.state).connections.len()
    }

    /// Resets the connections that `select` selects, and returns their number.
    pub fn cut(&self, select: impl FnMut() -> bool) -> usize {
        self.change_connections(select, |faults| faults.cut = true)
    }

    /// Makes all connections half-open, and returns their number: they stay open, and data in this
    /// direction is dropped. Only a reset ends this.
    pub fn half_open_all(&self, direction: Direction) -> usize {
        self.half_open_selected(direction, || true)
    }

    /// As [`half_open_all`](Self::half_open_all), for the connections that `select` selects.
    pub fn half_open_selected(&self, direction: Direction, select: impl FnMut() -> bool) -> usize {
        self.change_connections(select, |faults| {
            faults.drops_to_server |= direction != Direction::ToClient;
            faults.drops_to_client |= direction != Direction::ToServer;
        })
    }

    fn change_connections(
        &self,
        mut select: impl FnMut() -> bool,
        change: impl Fn(&mut ConnectionFaults),
    ) -> usize {
        let state = lock(&self.state);
        let selected = state.connections.values().filter(|_| select());
        selected.map(|faults| faults.send_modify(&change)).count()
    }

    /// Drops all data and closes nothing, as if the network interface were gone.
    pub fn isolate(&self) {
        self.set_new_connections(NewConnections::Blackhole);
        self.half_open_all(Direction::Both);
    }

    /// Forwards again. Half-open connections are reset, so that both sides notice their loss.
    pub fn heal(&self) {
        {
            let mut state = lock(&self.state);
            (state.new_connections, state.delay, state.resumed_fault) =
                (NewConnections::Forward, Duration::ZERO, None);
            for faults in state.connections.values() {
                faults.send_modify(|faults| faults.cut |= faults.drops_to_server || faults.drops_to_client);
            }
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<ProxyState>>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (number, faults, upstream) = {
            let mut state = lock(&state);
            if state.new_connections == NewConnections::Reset {
                reset_on_close(&client);
                continue;
            }
            let drops = state.new_connections == NewConnections::Blackhole;
            let (tx, rx) = watch::channel(ConnectionFaults {
                drops_to_server: drops,
                drops_to_client: drops,
                cut: false,
            });
            state.last_number += 1;
            let number = state.last_number;
            state.connections.insert(number, tx);
            (number, rx, state.upstream)
        };
        let state = state.clone();
        connections.spawn(async move {
            serve(client, upstream, faults, &state).await;
            lock(&state).connections.remove(&number);
        });
    }
}

/// The kernel sends RST instead of FIN when the socket is closed.
fn reset_on_close(stream: &TcpStream) {
    // If the socket is closed already, no reset is needed.
    let _ = stream.set_zero_linger();
}

async fn serve(
    client: TcpStream,
    upstream: Option<SocketAddr>,
    faults: watch::Receiver<ConnectionFaults>,
    state: &Mutex<ProxyState>,
) {
    let Some(upstream) = upstream else { return reset_on_close(&client) };
    let Ok(server) = TcpStream::connect(upstream).await else { return reset_on_close(&client) };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut up = OneWayPump {
        from: from_client,
        to: to_server,
        faults: faults.clone(),
        direction: Direction::ToServer,
        state,
    };
    let mut down =
        OneWayPump { from: from_server, to: to_client, faults, direction: Direction::ToClient, state };
    // Each direction ends by itself, unless the connection is cut.
    match tokio::try_join!(up.run(), down.run()) {
        Ok(_) => {}
        Err(CutKind::Reset) => {
            reset_on_close(up.from.as_ref());
            reset_on_close(down.from.as_ref());
            // If the write halves were dropped, they would send FIN before the reset.
            up.to.forget();
            down.to.forget();
        }
        Err(CutKind::AfterResumed) => {
            reset_on_close(down.from.as_ref());
            // Data already written still arrives; then the stream ends.
            let _ = down.to.shutdown().await;
        }
    }
}

/// How a connection is cut.
enum CutKind {
    Reset,
    AfterResumed,
}

/// One direction of a connection.
struct OneWayPump<'a> {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    faults: watch::Receiver<ConnectionFaults>,
    direction: Direction,
    state: &'a Mutex<ProxyState>,
}

impl OneWayPump<'_> {
    /// Forwards until the sender closes its side.
    async fn run(&mut self) -> Result<(), CutKind> {
        let mut bytes = vec![0; 16 * 1024];
        let mut first = (self.direction == Direction::ToClient).then(FirstFrame::default);
        loop {
            let count = tokio::select! {
                cut = wait_cut(self.faults.clone()) => return Err(cut),
                count = self.from.read(&mut bytes) => count.unwrap_or(0),
            };
            if count == 0 {
                if !self.drops_data() {
                    let _ = self.to.shutdown().await;
                }
                return Ok(());
            }
            match first.as_mut().map_or(FrameKind::Other, |first| first.push(&bytes[..count])) {
                FrameKind::Incomplete => {}
                FrameKind::Other => match first.take() {
                    Some(bytes_so_far) => self.forward(&bytes_so_far.into_bytes()).await?,
                    None => self.forward(&bytes[..count]).await?,
                },
                FrameKind::Resumed { start, end } => {
                    let bytes_so_far = first.take().map(FirstFrame::into_bytes).unwrap_or_default();
                    self.forward_resumed(&bytes_so_far, start, end).await?;
                }
            }
        }
    }

    fn drops_data(&self) -> bool {
        let faults = *self.faults.borrow();
        if self.direction == Direction::ToServer { faults.drops_to_server } else { faults.drops_to_client }
    }

    async fn forward_resumed(
        &mut self,
        bytes_so_far: &[u8],
        start: usize,
        end: usize,
    ) -> Result<(), CutKind> {
        let fault = {
            let mut state = lock(self.state);
            state.resumed_cuts += usize::from(state.resumed_fault.is_some());
            state.resumed_fault
        };
        match fault {
            None => self.forward(bytes_so_far).await,
            Some(ResumedFault::CutBefore) => {
                self.forward(&bytes_so_far[..start]).await?;
                Err(CutKind::Reset)
            }
            Some(ResumedFault::CutAfter) => {
                self.forward(&bytes_so_far[..end]).await?;
                Err(CutKind::AfterResumed)
            }
        }
    }

    async fn forward(&mut self, bytes: &[u8]) -> Result<(), CutKind> {
        let delay = lock(self.state).delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if self.drops_data() {
            return Ok(());
        }
        if self.direction == Direction::ToServer {
            lock(self.state).lose_answer(bytes);
        }
        tokio::select! {
            cut = wait_cut(self.faults.clone()) => Err(cut),
            // If the other side is gone, the pump of that side notices.
            _ = self.to.write_all(bytes) => Ok(()),
        }
    }
}

async fn wait_cut(mut faults: watch::Receiver<ConnectionFaults>) -> CutKind {
    if faults.wait_for(|faults| faults.cut).await.is_err() {
        // The proxy is dropped, so no cut can come.
        std::future::pending::<()>().await;
    }
    CutKind::Reset
}

#[cfg(test)]
mod tests;
