//! Where regular expressions are matched: on a thread of their own, in turn, within a bound on the
//! memory of all of them.
//!
//! An expression may take a hundred thousand times as long for an event as a prefix does. Workers
//! answer everybody, so none of them matches one.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::filter::Filter;
use super::limits::{FILTERS_BYTES, MATCH_STEP_TIME, MAX_WAITING_FILTERS};
use crate::budget::{Exhausted, MemoryBudget, Reservation};
use crate::store::{ReadError, ReadView, Store};

/// One step of a read, with its answer.
type Job = Box<dyn FnOnce() + Send>;

/// The filters of a node that are at work. Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub(super) struct Filters {
    jobs: SyncSender<Job>,
    memory: MemoryBudget,
}

impl Filters {
    /// Starts the thread.
    pub(super) fn start() -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(MAX_WAITING_FILTERS);
        std::thread::Builder::new().name("filter".to_owned()).spawn(move || work(&queue))?;
        Ok(Self { jobs, memory: MemoryBudget::new(FILTERS_BYTES, Duration::ZERO) })
    }

    /// What a filter holds in memory while it is at work.
    ///
    /// # Errors
    /// The others leave too little.
    pub(super) async fn hold(&self, filter: Option<&Filter>) -> Result<Option<Reservation>, Exhausted> {
        match filter.map_or(0, Filter::memory_bytes) {
            0 => Ok(None),
            bytes => self.memory.reserve(bytes).await.map(Some),
        }
    }

    /// Runs one step of a read with this filter on one consistent view.
    ///
    /// # Errors
    /// Too many others wait for the thread; or those of [`Store::read`].
    pub(super) async fn read<T, F>(&self, filter: Option<&Filter>, store: &Store, step: F) -> Result<T, StepError>
    where
        T: Send + 'static,
        F: Fn(&ReadView<'_>) -> Result<T, ReadError> + Send + 'static,
    {
        if !filter.is_some_and(Filter::is_slow) {
            return Ok(store.read(step).await?);
        }
        let store = store.clone();
        let (answer, answered) = oneshot::channel();
        let job = move || {
            // Nobody is left to hear it when the client has gone.
            if !answer.is_closed() {
                let _ = answer.send(read_here(&store, step));
            }
        };
        self.jobs.try_send(Box::new(job)).map_err(|_| Exhausted)?;
        // It is dropped unanswered only when the process ends.
        Ok(answered.await.map_err(|_| Exhausted)?)
    }
}

/// Why a step is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Busy(#[from] Exhausted),
    #[error(transparent)]
    Store(#[from] ReadError),
}

/// Priority of the thread among those of the process (nice), the lowest: a slow expression has what
/// other requests leave.
const NICE: i32 = 19;

/// Rests after a slow step for as long as that took, so that clients of a small machine keep most
/// of it.
#[expect(clippy::disallowed_methods, reason = "on the thread of filters, which is none of the workers")]
fn work(queue: &Receiver<Job>) {
    // Of this thread. Where it is not allowed, matching is only less considerate.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%error, "expressions of filters are matched with the usual priority");
    }
    while let Ok(job) = queue.recv() {
        let started = Instant::now();
        job();
        let took = started.elapsed();
        if took >= MATCH_STEP_TIME {
            std::thread::sleep(took);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "on the thread of filters, which is none of the workers")]
fn read_here<T>(store: &Store, step: impl Fn(&ReadView<'_>) -> Result<T, ReadError>) -> T {
    store.read_blocking(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StateWriter;
    use crate::streams::filter::{FilterBy, Pattern};

    fn filter(expression: &str) -> Filter {
        let pattern = Some((FilterBy::EventType, Pattern::regex(expression).unwrap()));
        Filter { pattern, without_system_events: false }
    }

    #[tokio::test]
    async fn expressions_run_on_a_thread_of_their_own_and_in_turn_up_to_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateWriter::open(directory.path(), 1 << 20).unwrap();
        let filters = Filters::start().unwrap();
        let (expensive, cheap) = (filter("a+b"), Filter { pattern: None, ..filter("a") });
        let name = |_: &ReadView<'_>| Ok(std::thread::current().name().map(str::to_owned));
        assert_eq!(filters.read(Some(&expensive), &state, name).await.unwrap().as_deref(), Some("filter"));
        assert_ne!(filters.read(Some(&cheap), &state, name).await.unwrap().as_deref(), Some("filter"));

        // The thread is busy with this one, and so many wait behind it.
        let (begun, has_begun) = mpsc::channel();
        let (end, may_end) = mpsc::channel::<()>();
        let busy = Box::new(move || {
            begun.send(()).unwrap();
            may_end.recv().unwrap();
        });
        filters.jobs.send(busy).unwrap();
        has_begun.recv().unwrap();
        let mut waiting: Vec<_> =
            (0..MAX_WAITING_FILTERS).map(|_| Box::pin(filters.read(Some(&expensive), &state, name))).collect();
        for step in &mut waiting {
            assert!(futures::poll!(step).is_pending());
        }
        let refused = filters.read(Some(&expensive), &state, name).await;
        assert!(matches!(refused, Err(StepError::Busy(_))), "{refused:?}");
        assert!(filters.read(Some(&cheap), &state, name).await.is_ok(), "what needs no thread waits for none");
        end.send(()).unwrap();
        for step in waiting {
            assert!(step.await.is_ok());
        }
    }

    #[tokio::test]
    async fn expressions_at_work_hold_memory_of_a_bound() {
        let filters = Filters::start().unwrap();
        let large = filter("[ab]*a[ab]{2000}c");
        let mut held = Vec::new();
        while let Ok(memory) = filters.hold(Some(&large)).await {
            held.push(memory.unwrap());
        }
        assert_eq!(held.len(), FILTERS_BYTES / large.memory_bytes());
        held.pop();
        let small = filter("^order-");
        assert!(small.memory_bytes() < large.memory_bytes());
        assert!(filters.hold(Some(&small)).await.is_ok(), "room was given back");
        let none = Filter { pattern: None, without_system_events: true };
        assert!(filters.hold(Some(&none)).await.unwrap().is_none());
    }
}
