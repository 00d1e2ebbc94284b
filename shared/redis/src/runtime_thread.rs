//! A thread with a runtime of its own.

use std::sync::mpsc;

use crate::redis_error::RedisStartError;

/// Runs a future on a thread's runtime and blocks this thread until it is done.
pub(crate) fn block_on_runtime<T: Send + 'static>(
    runtime: &tokio::runtime::Handle,
    task: impl Future<Output = Result<T, RedisStartError>> + Send + 'static,
) -> Result<T, RedisStartError> {
    let (tx, rx) = mpsc::channel();
    runtime.spawn(async move {
        // The receiver waits below; it cannot be gone.
        let _ = tx.send(task.await);
    });
    rx.recv().unwrap_or_else(|_| Err(RedisStartError::NoAnswer("the store's thread has stopped".to_owned())))
}

/// A thread with a runtime that lives until the returned sender is dropped.
pub(crate) fn start_runtime_thread()
-> Result<(tokio::runtime::Handle, tokio::sync::oneshot::Sender<()>), RedisStartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RedisStartError::Thread)?;
    let handle = runtime.handle().clone();
    let (alive, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            // An error means the sender was dropped, which is the signal.
            let _ = runtime.block_on(ended);
        })
        .map_err(RedisStartError::Thread)?;
    Ok((handle, alive))
}
