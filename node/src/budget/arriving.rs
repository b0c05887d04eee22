//! Room for what arrives piece by piece, and may never arrive as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Exhausted, UNIT_BYTES};

/// Room that bodies take as they grow. Clones share it.
///
/// Bodies that each have a part of the room could wait for each other for ever. So there is room
/// set apart for one whole body, the finisher: it waits for nothing more, ends, and makes way for
/// the next.
#[derive(Debug, Clone)]
pub struct Arriving {
    general: Arc<Semaphore>,
    finisher: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// The room of one body, given back when this is dropped.
#[derive(Debug)]
pub struct Room {
    arriving: Arriving,
    bytes: usize,
    general: Option<OwnedSemaphorePermit>,
    finisher: Option<OwnedSemaphorePermit>,
}

impl Arriving {
    /// Room for so many bytes, and for one body more.
    pub fn new(bytes: usize) -> Self {
        Self {
            general: Arc::new(Semaphore::new(bytes / UNIT_BYTES)),
            finisher: Arc::new(Semaphore::new(1)),
            waiting: Arc::default(),
        }
    }

    /// Whether a body waits for room.
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// No room yet.
    pub fn begin(&self) -> Room {
        Room { arriving: self.clone(), bytes: 0, general: None, finisher: None }
    }
}

impl Room {
    /// Bytes that there is room for, as long as it is not the finisher.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether others wait for room, and this body has some.
    pub fn is_wanted(&self) -> bool {
        (self.general.is_some() || self.finisher.is_some()) && self.arriving.is_wanted()
    }

    /// This room, if it is any.
    pub fn into_used(self) -> Option<Self> {
        (self.general.is_some() || self.finisher.is_some()).then_some(self)
    }

    /// Whether there is room for a body of `bytes`.
    pub fn is_enough_for(&self, bytes: usize) -> bool {
        self.finisher.is_some() || bytes <= self.bytes
    }

    /// Takes room for `bytes` more.
    ///
    /// # Errors
    /// There was none for as long as `patience`.
    pub async fn grow(&mut self, bytes: usize, patience: Duration) -> Result<(), Exhausted> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).map_err(|_| Exhausted)?;
        let (general, finisher) = (self.arriving.general.clone(), self.arriving.finisher.clone());
        if let Ok(more) = general.clone().try_acquire_many_owned(units) {
            self.add(more, bytes);
            return Ok(());
        }
        let _waiting = Waiting::new(self.arriving.waiting.clone());
        let turn = async {
            tokio::select! {
                biased;
                more = general.acquire_many_owned(units) => (more.ok(), None),
                whole = finisher.acquire_owned() => (None, whole.ok()),
            }
        };
        match tokio::time::timeout(patience, turn).await {
            Ok((Some(more), _)) => self.add(more, bytes),
            Ok((None, Some(whole))) => {
                self.finisher = Some(whole);
                self.general = None;
                self.bytes = 0;
            }
            Ok((None, None)) | Err(_) => return Err(Exhausted),
        }
        Ok(())
    }

    fn add(&mut self, more: OwnedSemaphorePermit, bytes: usize) {
        self.bytes += bytes;
        match &mut self.general {
            Some(general) => general.merge(more),
            None => self.general = Some(more),
        }
    }

    /// The body is complete, and has `bytes`. Makes way for the next finisher if that many are free
    /// elsewhere.
    pub fn settle(&mut self, bytes: usize) {
        let Ok(units) = u32::try_from(bytes.div_ceil(UNIT_BYTES)) else { return };
        if self.finisher.is_some()
            && let Ok(general) = self.arriving.general.clone().try_acquire_many_owned(units)
        {
            self.general = Some(general);
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

    #[tokio::test]
    async fn bodies_that_fill_the_room_end_one_after_the_other() {
        let arriving = Arriving::new(4 * UNIT_BYTES);
        let (mut first, mut second, mut third) = (arriving.begin(), arriving.begin(), arriving.begin());
        for room in [&mut first, &mut second] {
            room.grow(2 * UNIT_BYTES, LONG).await.unwrap();
        }
        first.grow(2 * UNIT_BYTES, LONG).await.unwrap();
        assert!(first.is_enough_for(usize::MAX), "it is the finisher and has given its part back");
        second.grow(2 * UNIT_BYTES, LONG).await.unwrap();
        assert!(second.is_enough_for(4 * UNIT_BYTES) && !second.is_enough_for(4 * UNIT_BYTES + 1));
        let mut waiting = Box::pin(third.grow(1, LONG));
        assert!(waiting.as_mut().now_or_never().is_none() && arriving.is_wanted());
        drop(first);
        waiting.await.unwrap();
        assert!(third.is_enough_for(usize::MAX) && !arriving.is_wanted());
        assert_eq!(arriving.begin().grow(1, Duration::ZERO).await, Err(Exhausted));
    }

    #[tokio::test]
    async fn a_finisher_that_is_complete_makes_way() {
        let arriving = Arriving::new(2 * UNIT_BYTES);
        let (mut first, mut second) = (arriving.begin(), arriving.begin());
        first.grow(2 * UNIT_BYTES, LONG).await.unwrap();
        second.grow(UNIT_BYTES, LONG).await.unwrap();
        second.settle(UNIT_BYTES);
        assert!(second.finisher.is_some(), "nothing is free elsewhere");
        drop(first);
        second.settle(UNIT_BYTES);
        assert!(second.finisher.is_none() && arriving.finisher.available_permits() == 1);
        assert_eq!(arriving.general.available_permits(), 1);
    }
}
