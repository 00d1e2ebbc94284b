//! A thread with a runtime of its own.

use std::sync::mpsc;

use crate::error::StartError;

/// Runs a future on a thread's runtime and blocks this thread until it is done.
pub(crate) fn wait_on<T: Send + 'static>(
    runtime: &tokio::runtime::Handle,
    task: impl Future<Output = Result<T, StartError>> + Send + 'static,
) -> Result<T, StartError> {
    let (tx, rx) = mpsc::channel();
    runtime.spawn(async move {
        // The receiver waits below; it cannot be gone.
        let _ = tx.send(task.await);
    });
    rx.recv().unwrap_or_else(|_| Err(StartError::NoAnswer("the store's thread has stopped".to_owned())))
}

/// A thread with a runtime that lives until the returned sender is dropped.
pub(crate) fn own_thread() -> Result<(tokio::runtime::Handle, tokio::sync::oneshot::Sender<()>), StartError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let handle = runtime.handle().clone();
    let (alive, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            // An error means the sender was dropped, which is the signal.
            let _ = runtime.block_on(ended);
        })
        .map_err(StartError::Thread)?;
    Ok((handle, alive))
}
