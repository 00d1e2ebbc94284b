//! Ports and deadlines.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// How long anything that should happen may take, on a busy machine too.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Below the range from which the kernel picks ports for outgoing connections, so that none is lost between its choice and its use.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 20_000;

/// A loopback address that nobody listens on. Each call gives another one.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(PORTS)) as u16;
    loop {
        let port = FIRST_PORT + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Waits for a future, at most [`DEADLINE`].
///
/// # Panics
/// When the time is over; `what` says what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// Asks again and again until there is an answer, at most [`DEADLINE`].
///
/// # Panics
/// When the time is over.
pub async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(DEADLINE, what, ask).await
}

/// Asks again and again until there is an answer, at most `limit`.
///
/// # Panics
/// When the time is over.
pub async fn eventually_within<T>(limit: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
