//! A TCP proxy that breaks connections: between clients and a node, or between a node and its Redis.
//!
//! Owns: the sockets of both sides. Must not: know what flows through, but for one thing, the first frame of a connection that
//! came back (docs/PROTOCOL.md, section 3): it can be lost on the way.

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
    net::free_address,
    proxy_frame::{FirstFrame, Verdict},
};

/// Which way bytes flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
    /// Both.
    Both,
}

/// What becomes of a connection that is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// It is served.
    #[default]
    Served,
    /// It is reset.
    Refused,
    /// It is taken, and nothing that is sent through it arrives.
    Swallowed,
}

/// What becomes of a `resumed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtResumed {
    /// It is lost, and the connection with it.
    Lost,
    /// It arrives, and right after it the connection is lost.
    ThenCut,
}

/// What one connection suffers.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    up_vanishes: bool,
    down_vanishes: bool,
    cut: bool,
}

#[derive(Debug, Default)]
struct State {
    upstream: Option<SocketAddr>,
    arrivals: Arrivals,
    delay: Duration,
    at_resumed: Option<AtResumed>,
    next: u64,
    fates: BTreeMap<u64, watch::Sender<Fate>>,
    cut_at_resumed: usize,
}

/// A running proxy. It ends, and resets all its connections, when it is dropped.
pub struct FaultProxy {
    /// Where it listens.
    pub address: SocketAddr,
    // A std mutex: held for a few instructions.
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultProxy {
    /// Listens and forwards to this address.
    ///
    /// # Panics
    /// If its port is taken.
    pub async fn start(upstream: SocketAddr) -> Self {
        let address = free_address();
        let listener = TcpListener::bind(address).await.expect("a free port");
        let state = Arc::new(Mutex::new(State { upstream: Some(upstream), ..State::default() }));
        let task = tokio::spawn(accept(listener, state.clone())).abort_handle();
        Self { address, state, task }
    }

    /// Forwards new connections to another address.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        lock(&self.state).upstream = Some(upstream);
    }

    /// What becomes of new connections.
    pub fn arrivals(&self, arrivals: Arrivals) {
        lock(&self.state).arrivals = arrivals;
    }

    /// Every piece of data takes so much longer.
    pub fn delay(&self, delay: Duration) {
        lock(&self.state).delay = delay;
    }

    /// What becomes of each `resumed` from now on.
    pub fn at_resumed(&self, what: Option<AtResumed>) {
        lock(&self.state).at_resumed = what;
    }

    /// How many connections were cut at their `resumed`.
    pub fn cut_at_resumed(&self) -> usize {
        lock(&self.state).cut_at_resumed
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        lock(&self.state).fates.len()
    }

    /// Resets the connections that are picked; how many there were.
    pub fn cut(&self, pick: impl FnMut() -> bool) -> usize {
        self.change(pick, |fate| fate.cut = true)
    }

    /// Makes the connections that are picked half-open: they stay, and what is sent that way vanishes. Nothing mends them.
    pub fn half_open(&self, way: Way, pick: impl FnMut() -> bool) -> usize {
        self.change(pick, |fate| {
            fate.up_vanishes |= way != Way::Down;
            fate.down_vanishes |= way != Way::Up;
        })
    }

    fn change(&self, mut pick: impl FnMut() -> bool, change: impl Fn(&mut Fate)) -> usize {
        let state = lock(&self.state);
        let picked = state.fates.values().filter(|_| pick());
        picked.map(|fate| fate.send_modify(&change)).count()
    }

    /// Nothing gets through any more, and nobody is told: an interface that went away.
    pub fn part(&self) {
        self.arrivals(Arrivals::Swallowed);
        self.half_open(Way::Both, || true);
    }

    /// Forwards again: what is half-open is reset, so that both sides learn of it.
    pub fn heal(&self) {
        {
            let mut state = lock(&self.state);
            (state.arrivals, state.delay, state.at_resumed) = (Arrivals::Served, Duration::ZERO, None);
            for fate in state.fates.values() {
                fate.send_modify(|fate| fate.cut |= fate.up_vanishes || fate.down_vanishes);
            }
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (number, fate, upstream) = {
            let mut state = lock(&state);
            if state.arrivals == Arrivals::Refused {
                reset(&client);
                continue;
            }
            let vanishes = state.arrivals == Arrivals::Swallowed;
            let (tx, rx) =
                watch::channel(Fate { up_vanishes: vanishes, down_vanishes: vanishes, cut: false });
            state.next += 1;
            let number = state.next;
            state.fates.insert(number, tx);
            (number, rx, state.upstream)
        };
        let state = state.clone();
        connections.spawn(async move {
            serve(client, upstream, fate, &state).await;
            lock(&state).fates.remove(&number);
        });
    }
}

/// The kernel sends RST instead of FIN when the socket is closed.
fn reset(stream: &TcpStream) {
    // A socket that is gone already needs none.
    let _ = stream.set_zero_linger();
}

async fn serve(
    client: TcpStream,
    upstream: Option<SocketAddr>,
    fate: watch::Receiver<Fate>,
    state: &Mutex<State>,
) {
    let Some(upstream) = upstream else { return reset(&client) };
    let Ok(server) = TcpStream::connect(upstream).await else { return reset(&client) };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut up = Pump { from: from_client, to: to_server, fate: fate.clone(), way: Way::Up, state };
    let mut down = Pump { from: from_server, to: to_client, fate, way: Way::Down, state };
    // Both ends at their own pace, unless the connection is cut.
    match tokio::try_join!(up.run(), down.run()) {
        Ok(_) => {}
        Err(Cut::Hard) => {
            reset(up.from.as_ref());
            reset(down.from.as_ref());
            // Dropped, they would shut down in good order first.
            up.to.forget();
            down.to.forget();
        }
        Err(Cut::AfterResumed) => {
            reset(down.from.as_ref());
            // What was written still arrives; the end of the stream follows it.
            let _ = down.to.shutdown().await;
        }
    }
}

/// How a connection is cut.
enum Cut {
    Hard,
    AfterResumed,
}

/// One direction of a connection.
struct Pump<'a> {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    fate: watch::Receiver<Fate>,
    way: Way,
    state: &'a Mutex<State>,
}

impl Pump<'_> {
    /// Forwards until the sender's end.
    async fn run(&mut self) -> Result<(), Cut> {
        let mut bytes = vec![0; 16 * 1024];
        let mut first = (self.way == Way::Down).then(FirstFrame::default);
        loop {
            let count = tokio::select! {
                cut = until_cut(self.fate.clone()) => return Err(cut),
                count = self.from.read(&mut bytes) => count.unwrap_or(0),
            };
            if count == 0 {
                if !self.vanishes() {
                    let _ = self.to.shutdown().await;
                }
                return Ok(());
            }
            match first.as_mut().map_or(Verdict::Pass, |first| first.look(&bytes[..count])) {
                Verdict::Wait => {}
                Verdict::Pass => match first.take() {
                    Some(held) => self.forward(&held.into_bytes()).await?,
                    None => self.forward(&bytes[..count]).await?,
                },
                Verdict::Resumed { start, end } => {
                    let held = first.take().map(FirstFrame::into_bytes).unwrap_or_default();
                    self.resumed(&held, start, end).await?;
                }
            }
        }
    }

    fn vanishes(&self) -> bool {
        let fate = *self.fate.borrow();
        if self.way == Way::Up { fate.up_vanishes } else { fate.down_vanishes }
    }

    async fn resumed(&mut self, held: &[u8], start: usize, end: usize) -> Result<(), Cut> {
        let armed = {
            let mut state = lock(self.state);
            state.cut_at_resumed += usize::from(state.at_resumed.is_some());
            state.at_resumed
        };
        match armed {
            None => self.forward(held).await,
            Some(AtResumed::Lost) => {
                self.forward(&held[..start]).await?;
                Err(Cut::Hard)
            }
            Some(AtResumed::ThenCut) => {
                self.forward(&held[..end]).await?;
                Err(Cut::AfterResumed)
            }
        }
    }

    async fn forward(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        let delay = lock(self.state).delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if self.vanishes() {
            return Ok(());
        }
        tokio::select! {
            cut = until_cut(self.fate.clone()) => Err(cut),
            // The other side may have gone: its own pump says so.
            _ = self.to.write_all(bytes) => Ok(()),
        }
    }
}

async fn until_cut(mut fate: watch::Receiver<Fate>) -> Cut {
    if fate.wait_for(|fate| fate.cut).await.is_err() {
        // Nobody can cut it any more.
        std::future::pending::<()>().await;
    }
    Cut::Hard
}

#[cfg(test)]
mod tests;
