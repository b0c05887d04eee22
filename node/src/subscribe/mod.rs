//! Long polls: waiting for a stream or the log of all events to grow.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::event::{EventNumber, Position};
use crate::store::{ReadError, Store};

/// Requests that may wait at the same time. One more is answered at once, which a client cannot tell from
/// an early wake-up (contract/streams 8.8).
pub const MAX_WAITING: usize = 5_000;

/// Everybody who waits for events on this node.
#[derive(Debug)]
pub struct Waiters {
    slots: Semaphore,
    closed: CancellationToken,
}

impl Default for Waiters {
    fn default() -> Self {
        Self::new(MAX_WAITING)
    }
}

impl Waiters {
    /// Room for `limit` waiting requests.
    pub fn new(limit: usize) -> Self {
        Self { slots: Semaphore::new(limit), closed: CancellationToken::new() }
    }

    /// Ends all waits, present and future: the node shuts down.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Number of requests that may still begin to wait.
    pub fn free(&self) -> usize {
        self.slots.available_permits()
    }

    /// Returns when `stream` has an event after `last` or is hard-deleted, or after `wait`, whatever comes first.
    pub async fn stream_grows(
        &self,
        store: &Store,
        stream: &str,
        last: Option<EventNumber>,
        wait: Duration,
    ) -> Result<(), ReadError> {
        let Ok(_slot) = self.slots.try_acquire() else { return Ok(()) };
        let deadline = Instant::now() + wait;
        // Taken before the first look at the stream, so that no event falls between look and wait.
        let mut change = store.applied().watch_stream(stream);
        loop {
            let name = stream.to_owned();
            let info = store.read(move |view| view.stream(&name)).await?;
            if info.tombstoned || info.last_number > last {
                return Ok(());
            }
            if !self.is_woken(change.changed(), deadline).await {
                return Ok(());
            }
        }
    }

    /// Returns when there is an event at `position` or after it, or after `wait`, whatever comes first.
    pub async fn log_grows(&self, store: &Store, position: Position, wait: Duration) -> Result<(), ReadError> {
        let Ok(_slot) = self.slots.try_acquire() else { return Ok(()) };
        let deadline = Instant::now() + wait;
        let mut change = store.applied().watch_all();
        while store.read(|view| view.next_position()).await? <= position {
            if !self.is_woken(change.changed(), deadline).await {
                break;
            }
        }
        Ok(())
    }

    /// False when the deadline passed or the node shuts down.
    async fn is_woken(&self, change: impl Future<Output = ()>, deadline: Instant) -> bool {
        tokio::select! {
            woken = timeout_at(deadline, change) => woken.is_ok(),
            () = self.closed.cancelled() => false,
        }
    }
}
