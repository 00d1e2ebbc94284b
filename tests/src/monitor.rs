//! Counts what clients ask of a Redis server, with `MONITOR`: a script is one, whatever it does inside.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::AbortHandle,
};

/// A running count.
pub struct Monitor {
    count: Arc<AtomicU64>,
    rooms: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Monitor {
    /// Counts from now on.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn start(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("redis-server listens");
        stream.write_all(b"MONITOR\r\n").await.expect("an open connection");
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next_line().await.expect("an answer");
        assert_eq!(first.as_deref(), Some("+OK"));
        let (count, rooms) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counters = (count.clone(), rooms.clone());
        let task = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let asked = is_asked(&line);
                counters.0.fetch_add(u64::from(asked), Ordering::Relaxed);
                counters.1.fetch_add(u64::from(asked && is_of_room(&line)), Ordering::Relaxed);
            }
        });
        Self { count, rooms, task: task.abort_handle() }
    }

    /// Commands so far that name a room or a mailbox: all but what nodes do by themselves, idle or not.
    pub fn of_rooms(&self) -> u64 {
        self.rooms.load(Ordering::Relaxed)
    }

    /// Commands so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`; what a script does is from `lua`.
fn is_asked(line: &str) -> bool {
    line.starts_with('+') && line.contains(" [") && !line.contains(" lua] ")
}

fn is_of_room(line: &str) -> bool {
    line.contains(":room:") || line.contains(":box:")
}

#[cfg(test)]
mod tests {
    use super::is_asked;

    #[test]
    fn what_a_script_does_is_not_counted() {
        assert!(is_asked(r#"+1339518083.107412 [0 127.0.0.1:60866] "evalsha" "…""#));
        assert!(!is_asked(r#"+1339518083.107413 [0 lua] "xadd" "…""#));
        assert!(!is_asked("+OK"));
    }
}
