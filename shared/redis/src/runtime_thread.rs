//! The thread of a client, with a runtime of its own.

use std::sync::mpsc;

use crate::redis_error::RedisStartError;

/// Runs a future on the runtime of another thread and blocks this thread until it is done.
pub(crate) fn block_on_runtime<T: Send + 'static>(
    runtime: &tokio::runtime::Handle,
    task: impl Future<Output = Result<T, RedisStartError>> + Send + 'static,
) -> Result<T, RedisStartError> {
    let (tx, rx) = mpsc::channel();
    runtime.spawn(async move {
        // The receiver waits below, so it exists.
        let _ = tx.send(task.await);
    });
    rx.recv().unwrap_or_else(|_| Err(RedisStartError::NoAnswer("the store's thread has stopped".to_owned())))
}

/// Starts a thread with a runtime. The thread ends when the returned sender is dropped.
pub(crate) fn start_runtime_thread()
-> Result<(tokio::runtime::Handle, tokio::sync::oneshot::Sender<()>), RedisStartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread_error)?;
    let handle = runtime.handle().clone();
    let (alive, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            // An error means that the sender was dropped.
            let _ = runtime.block_on(ended);
        })
        .map_err(thread_error)?;
    Ok((handle, alive))
}

fn thread_error(error: std::io::Error) -> RedisStartError {
    RedisStartError::Thread(error.to_string())
}
