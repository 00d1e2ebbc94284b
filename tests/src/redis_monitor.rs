//! Counts the commands of clients at a Redis server, with `MONITOR`. A script counts as one
//! command.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use signalbox_redis::redis_keys::KeyKind;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::AbortHandle,
};

/// A running count.
pub struct RedisMonitor {
    commands: Arc<AtomicU64>,
    room_commands: Arc<AtomicU64>,
    task: AbortHandle,
}

impl RedisMonitor {
    /// Starts to count.
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
                let from_client = is_client_command(&line);
                counters.0.fetch_add(u64::from(from_client), Ordering::Relaxed);
                counters.1.fetch_add(u64::from(from_client && names_room(&line)), Ordering::Relaxed);
            }
        });
        Self { commands: count, room_commands: rooms, task: task.abort_handle() }
    }

    /// Commands so far that name a room or a mailbox. Nodes send other commands also while idle.
    pub fn room_commands(&self) -> u64 {
        self.room_commands.load(Ordering::Relaxed)
    }

    /// Commands so far.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }
}

impl Drop for RedisMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether the line is a command of a client. Commands inside a script come from `lua`. Example:
/// `+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`
fn is_client_command(line: &str) -> bool {
    line.starts_with('+') && line.contains(" [") && !line.contains(" lua] ")
}

fn names_room(line: &str) -> bool {
    [KeyKind::Room, KeyKind::Mailbox].iter().any(|kind| line.contains(kind.prefix()))
}

#[cfg(test)]
mod tests {
    use super::is_client_command;

    #[test]
    fn commands_inside_a_script_are_not_counted() {
        assert!(is_client_command(r#"+1339518083.107412 [0 127.0.0.1:60866] "evalsha" "…""#));
        assert!(!is_client_command(r#"+1339518083.107413 [0 lua] "xadd" "…""#));
        assert!(!is_client_command("+OK"));
    }
}
