//! A proxy that keeps the connection of a subscriber open and forwards nothing to the subscriber.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use signalbox_tests::net::free_address;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

pub(crate) struct MutingProxy {
    pub(crate) address: SocketAddr,
    /// Connections up to this one are muted if they subscribe.
    last_muted: Arc<AtomicU64>,
    connection_count: Arc<AtomicU64>,
}

impl MutingProxy {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let address = free_address();
        let listener = TcpListener::bind(address).await.unwrap();
        let (muted, count) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let proxy = Self { address, last_muted: muted.clone(), connection_count: count.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                let server = TcpStream::connect(to).await.unwrap();
                tokio::spawn(carry_bytes(client, server, number, muted.clone()));
            }
        });
        proxy
    }

    /// Mutes all current subscribers. Later subscribers receive messages.
    pub(crate) fn mute_subscribers(&self) {
        self.last_muted.store(self.connection_count.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

async fn carry_bytes(client: TcpStream, server: TcpStream, number: u64, muted: Arc<AtomicU64>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let subscribes = Arc::new(AtomicBool::new(false));
    let has_subscribed = subscribes.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            if buffer[..n].windows(10).any(|word| word == b"SSUBSCRIBE") {
                has_subscribed.store(true, Ordering::Relaxed);
            }
            if to_server.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
        let is_muted = subscribes.load(Ordering::Relaxed) && number <= muted.load(Ordering::Relaxed);
        if !is_muted && to_client.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
