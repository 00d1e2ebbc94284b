//! Wakes the task of one connection.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// Wakes the task of a connection, which is the only one that waits.
#[derive(Default)]
pub(super) struct TaskWake {
    has_work: AtomicBool,
    waker: AtomicWaker,
}

impl TaskWake {
    /// There is work.
    pub(super) fn wake(&self) {
        self.has_work.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Ready once after each [`TaskWake::wake`], or after several of them.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.has_work.swap(false, Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.waker.register(context.waker());
        // It may have been set between the two steps.
        if self.has_work.swap(false, Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}
