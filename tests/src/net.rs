//! Ports and deadlines.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// How long any expected event may take, also on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Below the range from which the kernel picks ports for outgoing connections, so that no such
/// connection takes the port between its choice and its use.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 20_000;

/// A loopback address on which no process listens. Each call gives another one.
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
/// If the time is over. `description` names the expected event.
pub async fn within<T>(description: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(done) => done,
        Err(_) => panic!("{description}: not within {DEADLINE:?}"),
    }
}

/// Polls until there is a value, at most [`DEADLINE`].
///
/// # Panics
/// If the time is over.
pub async fn eventually<T>(description: &str, poll: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(DEADLINE, description, poll).await
}

/// Polls until there is a value, at most `limit`.
///
/// # Panics
/// If the time is over.
pub async fn eventually_within<T>(
    limit: Duration,
    description: &str,
    mut poll: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = poll().await {
            return value;
        }
        assert!(Instant::now() < end, "{description}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Host and port.
pub(crate) fn host_port(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}
