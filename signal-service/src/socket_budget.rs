//! The bytes that wait for all sockets of a node, and their bound.
//!
//! Owns: the sum over all connections: outboxes, requests that wait for the store, and incomplete
//! messages of clients. Must not: close a connection; `maintenance` does, beyond the bound.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// The bytes that wait for all sockets of a node.
#[derive(Debug)]
pub struct SocketBudget {
    used_bytes: AtomicUsize,
    max_bytes: usize,
    exceeded: Notify,
}

impl SocketBudget {
    /// A budget of at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { used_bytes: AtomicUsize::new(0), max_bytes, exceeded: Notify::new() })
    }

    /// The bytes that wait now.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// The bytes that wait beyond the bound, when `released_bytes` of them are about to be released.
    pub fn surplus_bytes(&self, released_bytes: usize) -> usize {
        self.used_bytes().saturating_sub(self.max_bytes + released_bytes)
    }

    /// Waits until the bound is exceeded.
    pub async fn wait_until_exceeded(&self) {
        self.exceeded.notified().await;
    }

    /// The bytes of a new connection.
    pub fn open_connection(self: &Arc<Self>) -> Arc<ConnectionBytes> {
        Arc::new(ConnectionBytes { budget: self.clone(), held_bytes: AtomicUsize::new(0) })
    }
}

/// The bytes that wait for one connection, in all its buffers.
#[derive(Debug)]
pub struct ConnectionBytes {
    budget: Arc<SocketBudget>,
    held_bytes: AtomicUsize,
}

impl ConnectionBytes {
    /// The bytes that wait now.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// An empty buffer of the connection.
    pub fn open_buffer(self: &Arc<Self>) -> BufferBytes {
        BufferBytes { connection: self.clone(), bytes: 0 }
    }
}

/// The bytes in one buffer of a connection. They are released when it is dropped.
#[derive(Debug)]
pub struct BufferBytes {
    connection: Arc<ConnectionBytes>,
    bytes: usize,
}

impl BufferBytes {
    /// Records that the buffer holds this number of bytes now. Nearly always it is 0 as before, which
    /// costs one comparison.
    pub fn set(&mut self, bytes: usize) {
        let (before, budget) = (std::mem::replace(&mut self.bytes, bytes), &self.connection.budget);
        if bytes > before {
            let added = bytes - before;
            self.connection.held_bytes.fetch_add(added, Ordering::Relaxed);
            if budget.used_bytes.fetch_add(added, Ordering::Relaxed) + added > budget.max_bytes {
                budget.exceeded.notify_one();
            }
        } else if bytes < before {
            self.connection.held_bytes.fetch_sub(before - bytes, Ordering::Relaxed);
            budget.used_bytes.fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for BufferBytes {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_sum_follows_every_buffer_until_it_is_dropped() {
        let budget = SocketBudget::new(100);
        let (first, second) = (budget.open_connection(), budget.open_connection());
        let (mut outbox, mut reader, mut other) =
            (first.open_buffer(), first.open_buffer(), second.open_buffer());
        outbox.set(60);
        reader.set(30);
        other.set(10);
        assert_eq!((first.held_bytes(), second.held_bytes(), budget.used_bytes()), (90, 10, 100));
        assert!(budget.wait_until_exceeded().now_or_never().is_none());
        other.set(11);
        assert!(budget.wait_until_exceeded().now_or_never().is_some());
        assert_eq!((budget.surplus_bytes(0), budget.surplus_bytes(1)), (1, 0));
        drop(outbox);
        reader.set(0);
        assert_eq!((first.held_bytes(), budget.used_bytes(), budget.surplus_bytes(0)), (0, 11, 0));
    }
}
