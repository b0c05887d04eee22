//! Where a node does work that may wait for the disk: on threads, and never on those of the
//! runtime.
//!
//! A simulated node (tests alone, docs/adr/0029) has simulated time, which knows nothing of
//! threads. There the same work runs in place, and what is a thread of its own is a task: see
//! [`simulated`].

use tokio::task::JoinError;

#[cfg(test)]
pub(crate) mod simulated;

/// Runs work that may wait for the disk outside the async threads. The error says that the work
/// panicked, or that the runtime shuts down.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, JoinError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    #[cfg(test)]
    if simulated::is_on() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}
