//! Waiting for a stream or the log of all events to grow: for long polls, and for subscriptions.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::deliberate::{self, Fault};
use crate::store::{ReadError, ReadView, Store, StreamChange};

/// Requests that may wait at the same time. A further request is answered at once, which a client
/// cannot distinguish from an early wake-up (contract/streams 8.8).
pub(crate) const MAX_WAITING: usize = 5_000;

/// Subscriptions at the same time; a further one is refused. Each holds a connection and up to two
/// pieces of its answer.
pub const MAX_SUBSCRIPTIONS: usize = 1_000;

/// All requests and subscriptions that wait for events on this node.
#[derive(Debug)]
pub(crate) struct Waiters {
    slots: Semaphore,
    subscriptions: Arc<Semaphore>,
    closed: CancellationToken,
}

impl Default for Waiters {
    fn default() -> Self {
        Self::new(MAX_WAITING, MAX_SUBSCRIPTIONS)
    }
}

impl Waiters {
    /// With places for this many waiting requests and subscriptions.
    pub(crate) fn new(waiting: usize, subscriptions: usize) -> Self {
        let subscriptions = Arc::new(Semaphore::new(subscriptions));
        Self { slots: Semaphore::new(waiting), subscriptions, closed: CancellationToken::new() }
    }

    /// Begins to follow `watched`, which is to be read after that; `None` when all places are
    /// taken. `reader` is cancelled when it is not to wait for anything more.
    pub(crate) fn follow(&self, store: &Store, watched: Watched<'_>, reader: CancellationToken) -> Option<ChangeWatch> {
        let place = self.subscriptions.clone().try_acquire_owned().ok()?;
        let change = watched.change(store);
        Some(ChangeWatch { change, closed: self.closed.clone(), reader, _place: place })
    }

    /// Ends all waits, present and future: the node shuts down.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Returns when the node shuts down.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Number of requests that may still begin to wait.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.slots.available_permits()
    }

    /// Returns when a look finds that `watched` has grown as far as is wanted, or at the end of
    /// `poll`, whatever comes first.
    pub(crate) async fn wait_for<F>(
        &self,
        store: &Store,
        watched: Watched<'_>,
        has_grown: F,
        poll: &LongPoll,
    ) -> Result<(), ReadError>
    where
        F: Fn(&ReadView<'_>) -> Result<bool, ReadError> + Clone + Send + 'static,
    {
        let Ok(_slot) = self.slots.try_acquire() else { return Ok(()) };
        let deadline = Instant::now() + poll.wait;
        // Taken before the first look, so that no event falls between look and wait.
        let mut change = watched.change(store);
        while !store.read(has_grown.clone()).await? {
            if !self.is_woken(change.changed(), deadline, &poll.closed).await {
                break;
            }
        }
        Ok(())
    }

    /// False when the deadline passed, the node shuts down or the client has closed its side.
    async fn is_woken(&self, change: impl Future<Output = ()>, deadline: Instant, client: &CancellationToken) -> bool {
        tokio::select! {
            woken = timeout_at(deadline, change), if !deliberate::is(Fault::LoseWakeUp) => woken.is_ok(),
            () = tokio::time::sleep_until(deadline), if deliberate::is(Fault::LoseWakeUp) => false,
            () = self.closed.cancelled() => false,
            () = client.cancelled() => false,
        }
    }
}

/// A wish to wait for events.
#[derive(Debug, Clone)]
pub(crate) struct LongPoll {
    /// How long at most.
    pub(crate) wait: Duration,
    /// The client has closed its sending side. It may be gone, and is answered at once.
    pub(crate) closed: CancellationToken,
}

/// What a long poll or a subscription waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched<'a> {
    /// One stream.
    Stream(&'a str),
    /// The log of all events.
    Log,
}

impl Watched<'_> {
    fn change(self, store: &Store) -> StreamChange {
        match self {
            Self::Stream(stream) => store.applied().watch_stream(stream),
            Self::Log => store.applied().watch_all(),
        }
    }
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// There may be a change.
    Changed,
    /// Nothing changed during the whole wait.
    Idle,
    /// The node shuts down, or the reader wants nothing more.
    Closed,
}

/// A reader that follows a stream or the log without a time limit. It holds one of the
/// [`MAX_SUBSCRIPTIONS`] places.
#[derive(Debug)]
pub(crate) struct ChangeWatch {
    change: StreamChange,
    closed: CancellationToken,
    reader: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl ChangeWatch {
    /// Whether the node is shutting down.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Returns when the followed stream or log has changed since this value was made or last
    /// returned, or after `wait`. A caller that alternates between reading and waiting misses
    /// nothing.
    pub(crate) async fn changed(&mut self, wait: Duration) -> Woken {
        tokio::select! {
            woken = tokio::time::timeout(wait, self.change.changed()) => match woken {
                Ok(()) => Woken::Changed,
                Err(_) => Woken::Idle,
            },
            () = self.closed.cancelled() => Woken::Closed,
            () = self.reader.cancelled() => Woken::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StateWriter;

    #[tokio::test]
    async fn subscriptions_have_a_limit_and_give_their_place_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = StateWriter::open(directory.path(), 1 << 20).unwrap();
        let waiters = Waiters::new(1, 2);
        let follow = |watched| waiters.follow(&store, watched, CancellationToken::new());
        let first = follow(Watched::Stream("a")).unwrap();
        let _second = follow(Watched::Log).unwrap();
        assert!(follow(Watched::Log).is_none());
        drop(first);
        assert!(follow(Watched::Log).is_some());
    }

    #[tokio::test]
    async fn a_subscription_ends_with_the_node() {
        let directory = tempfile::tempdir().unwrap();
        let store = StateWriter::open(directory.path(), 1 << 20).unwrap();
        let waiters = Waiters::default();
        let mut watch = waiters.follow(&store, Watched::Log, CancellationToken::new()).unwrap();
        assert_eq!(watch.changed(Duration::from_millis(1)).await, Woken::Idle);
        assert!(!watch.is_closed());
        waiters.close();
        assert_eq!(watch.changed(Duration::from_secs(60)).await, Woken::Closed);
        assert!(watch.is_closed());
    }

    #[tokio::test]
    async fn a_client_that_closes_its_side_waits_for_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = StateWriter::open(directory.path(), 1 << 20).unwrap();
        let waiters = Waiters::default();
        let closed = CancellationToken::new();
        let mut watch = waiters.follow(&store, Watched::Log, closed.clone()).unwrap();
        let poll = LongPoll { wait: Duration::from_secs(3600), closed: closed.clone() };
        let poll = waiters.wait_for(&store, Watched::Stream("a"), |_: &ReadView<'_>| Ok(false), &poll);
        let (closing, woken) = (async { closed.cancel() }, watch.changed(Duration::from_secs(3600)));
        let (poll, woken, ()) = tokio::join!(poll, woken, closing);
        assert!(poll.is_ok() && woken == Woken::Closed);
        assert!(!watch.is_closed(), "the node goes on");
        assert_eq!(waiters.free(), MAX_WAITING);
    }
}
