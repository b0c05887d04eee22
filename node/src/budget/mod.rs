//! Memory budgets shared by requests. A large request reserves its bytes before it allocates them,
//! so that many large requests at once wait or are refused instead of filling the memory of the
//! node.

mod arriving;
mod pool;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use arriving::{Arriving, Room};
pub(crate) use pool::{Account, FLOOR_BYTES, Held, Pool};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit of the semaphore, which counts no further than 32 bits in one step.
const UNIT_BYTES: usize = 1024;

/// A number of bytes for one purpose. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    free: Arc<Semaphore>,
    /// How long a request waits for bytes to become free. Zero refuses it at once.
    patience: Duration,
}

/// The bytes did not become free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory became free in time")]
pub(crate) struct Exhausted;

/// Bytes of a budget, given back when dropped.
#[derive(Debug)]
#[must_use = "the bytes are given back when this is dropped"]
pub(crate) struct Reservation(OwnedSemaphorePermit);

impl MemoryBudget {
    /// A budget of `bytes`. A request that finds too few free bytes waits for `patience` at most.
    pub(crate) fn new(bytes: usize, patience: Duration) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes / UNIT_BYTES)), patience }
    }

    /// The same budget with another patience.
    pub(crate) fn with_patience(&self, patience: Duration) -> Self {
        Self { free: self.free.clone(), patience }
    }

    /// Reserves `bytes` if that takes no wait.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        self.free.clone().try_acquire_many_owned(units).ok().map(Reservation)
    }

    /// Reserves `bytes`. Waiting requests are served in order of arrival.
    ///
    /// # Errors
    /// The bytes did not become free in time.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Reservation, Exhausted> {
        if self.patience.is_zero() {
            return self.try_reserve(bytes).ok_or(Exhausted);
        }
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).map_err(|_| Exhausted)?;
        let reserved = tokio::time::timeout(self.patience, self.free.clone().acquire_many_owned(units)).await;
        reserved.ok().and_then(Result::ok).map(Reservation).ok_or(Exhausted)
    }
}

impl Reservation {
    /// Gives back all but `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let excess = self.0.num_permits().saturating_sub(bytes.div_ceil(UNIT_BYTES));
        drop(self.0.split(excess));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_request_waits_for_its_bytes_and_gets_them_when_others_give_them_back() {
        let budget = MemoryBudget::new(10 * UNIT_BYTES, Duration::from_secs(60));
        let mut first = budget.reserve(9 * UNIT_BYTES + 1).await.unwrap();
        let mut second = Box::pin(budget.reserve(UNIT_BYTES));
        assert!(second.as_mut().now_or_never().is_none());
        first.shrink_to(9 * UNIT_BYTES);
        let second = second.await.unwrap();
        assert!(budget.reserve(1).now_or_never().is_none());
        drop((first, second));
        assert!(budget.reserve(10 * UNIT_BYTES).await.is_ok());
    }

    #[tokio::test]
    async fn a_request_is_refused_once_its_patience_is_over() {
        let patient = MemoryBudget::new(UNIT_BYTES, Duration::from_millis(10));
        let impatient = patient.with_patience(Duration::ZERO);
        let held = impatient.reserve(1).await.unwrap();
        assert_eq!(impatient.reserve(1).now_or_never().map(|refused| refused.err()), Some(Some(Exhausted)));
        assert_eq!(patient.reserve(1).await.err(), Some(Exhausted));
        drop(held);
        assert!(impatient.reserve(1).now_or_never().is_some_and(|reserved| reserved.is_ok()));
        assert_eq!(impatient.reserve(usize::MAX).await.err(), Some(Exhausted));
    }
}
