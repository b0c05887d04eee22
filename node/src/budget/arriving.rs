//! Room for what arrives piece by piece, and may never arrive as a whole.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Exhausted;
use super::pool::{Account, Held, Pool};

/// A body may have one part in so many of the room that is free.
const SHARE_OF_FREE: usize = 2;

/// Room that bodies take as they grow. Clones share it.
///
/// Bodies that each have a part of the room could wait for each other for ever. So there is room
/// set apart for one whole body, the finisher: it waits for nothing more, ends, and makes way for
/// the next.
#[derive(Debug, Clone)]
pub(crate) struct Arriving {
    general: Arc<Pool>,
    finisher: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// The room of one body, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    arriving: Arriving,
    general: Held,
    bytes: usize,
    /// What the body needs in the end, as far as that is known.
    goal: usize,
    finisher: Option<OwnedSemaphorePermit>,
}

impl Arriving {
    /// Room for so many bytes, and for one body more.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            general: Pool::shared(bytes, 0, SHARE_OF_FREE),
            finisher: Arc::new(Semaphore::new(1)),
            waiting: Arc::default(),
        }
    }

    /// Whether a body waits for room.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// No room yet, for a body from `address` that needs `goal` bytes in the end; 0 if that is not
    /// known. One that could not be complete in its share of the room takes none of it and waits to
    /// be the finisher: many that stop halfway would leave nothing to small ones.
    pub(crate) fn begin(&self, address: IpAddr, goal: usize) -> Room {
        let general = Account::new(&self.general, address).holds_nothing();
        Room { arriving: self.clone(), general, bytes: 0, goal, finisher: None }
    }
}

impl Room {
    /// Bytes that there is room for, as long as it is not the finisher.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether others wait for room, and this body has some.
    pub(crate) fn is_wanted(&self) -> bool {
        (self.bytes > 0 || self.finisher.is_some()) && self.arriving.is_wanted()
    }

    /// Whether there is room for a body of `bytes`.
    pub(crate) fn is_enough_for(&self, bytes: usize) -> bool {
        self.finisher.is_some() || bytes <= self.bytes
    }

    /// Takes room for `wished` bytes more if there is so much and nobody waits, else for `least`,
    /// and waits for that.
    ///
    /// # Errors
    /// There was none for as long as `patience`.
    pub(crate) async fn grow(&mut self, least: usize, wished: usize, patience: Duration) -> Result<(), Exhausted> {
        for bytes in [if self.arriving.is_wanted() { least } else { wished }, least] {
            if self.general.try_grow_towards(bytes, self.goal) {
                self.bytes += bytes;
                return Ok(());
            }
        }
        let _waiting = Waiting::new(self.arriving.waiting.clone());
        let finisher = self.arriving.finisher.clone();
        tokio::select! {
            biased;
            grown = self.general.grow(least, self.goal, patience) => {
                grown?;
                self.bytes += least;
            }
            // Never closed.
            whole = finisher.acquire_owned() => {
                self.finisher = whole.ok();
                self.general.shrink_to(0);
                self.bytes = 0;
            }
        }
        Ok(())
    }

    /// The body is complete, and has `bytes`. Makes way for the next finisher if that many are free
    /// elsewhere.
    pub(crate) fn settle(&mut self, bytes: usize) {
        if self.finisher.is_some() && self.general.try_grow(bytes) {
            self.finisher = None;
            self.bytes = bytes;
        }
    }
}

/// Counts those who wait, until this is dropped.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(waiting: Arc<AtomicUsize>) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const MIB: usize = 1 << 20;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[tokio::test]
    async fn bodies_that_fill_the_room_end_one_after_the_other() {
        let arriving = Arriving::new(8 * MIB);
        let begin = || arriving.begin(address(1), 0);
        let (mut first, mut second, mut third) = (begin(), begin(), begin());
        for room in [&mut first, &mut second] {
            room.grow(MIB, 2 * MIB, LONG).await.unwrap();
        }
        assert_eq!((first.bytes(), second.bytes()), (2 * MIB, MIB), "an address has half, and a body half of that");
        first.grow(MIB, MIB, LONG).await.unwrap();
        assert!(first.is_enough_for(usize::MAX), "it is the finisher and has given its part back");
        let mut waiting = Box::pin(third.grow(3 * MIB, 3 * MIB, LONG));
        assert!(waiting.as_mut().now_or_never().is_none() && arriving.is_wanted());
        assert!(first.is_wanted() && second.is_wanted());
        assert_eq!(begin().grow(3 * MIB, 3 * MIB, Duration::ZERO).await, Err(Exhausted));
        drop(first);
        waiting.await.unwrap();
        assert!(third.is_enough_for(usize::MAX) && !arriving.is_wanted());
    }

    #[tokio::test]
    async fn bodies_that_cannot_end_in_their_share_leave_the_room_to_others() {
        let arriving = Arriving::new(8 * MIB);
        let begin = |goal| arriving.begin(address(1), goal);
        let (mut finisher, mut waiting) = (begin(3 * MIB), begin(3 * MIB));
        finisher.grow(1, MIB, LONG).await.unwrap();
        assert!(finisher.is_enough_for(3 * MIB), "it has the room that is set apart");
        assert_eq!(waiting.grow(1, MIB, Duration::ZERO).await, Err(Exhausted));
        assert_eq!(arriving.general.used(), 0);
        let mut fits = begin(2 * MIB);
        fits.grow(1, MIB, Duration::ZERO).await.unwrap();
        assert_eq!((fits.bytes(), arriving.general.used()), (MIB, MIB), "it takes what comes");
        // Three are left to the address, and so no body of two begins any more.
        assert_eq!(begin(2 * MIB).grow(1, MIB, Duration::ZERO).await, Err(Exhausted));
        assert_eq!(begin(MIB).grow(1, MIB, Duration::ZERO).await, Ok(()));
    }

    #[tokio::test]
    async fn a_finisher_that_is_complete_makes_way() {
        let arriving = Arriving::new(8 * MIB);
        let (mut first, mut second) = (arriving.begin(address(1), 0), arriving.begin(address(1), 0));
        first.grow(2 * MIB, 2 * MIB, LONG).await.unwrap();
        second.grow(2 * MIB, 2 * MIB, LONG).await.unwrap();
        assert!(second.finisher.is_some(), "half of what is free is less");
        second.settle(2 * MIB);
        assert!(second.finisher.is_some(), "so much is not free elsewhere");
        drop(first);
        second.settle(2 * MIB);
        assert!(second.finisher.is_none() && arriving.finisher.available_permits() == 1);
        assert_eq!(arriving.general.used(), 2 * MIB);
    }
}
