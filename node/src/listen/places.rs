//! Places for open connections on one port. When all are taken, a connection on which nothing
//! happens makes room for the next one, so that nobody keeps others out by doing nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// A connection counts as idle from here on: one between two requests must not be taken for one
/// that nobody uses.
const LEAST_IDLE: Duration = Duration::from_secs(1);

/// How often a newcomer looks for an idle connection while there is none.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// All places of a port.
pub(super) struct Places {
    free: Arc<Semaphore>,
    most: usize,
    /// The holders of places, by number.
    taken: Mutex<HashMap<u64, Arc<Occupant>>>,
    next_number: AtomicU64,
    /// Times count from here.
    started: Instant,
}

/// The place of one connection; free again when this is dropped.
pub(crate) struct Place {
    occupant: Arc<Occupant>,
    number: u64,
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
}

/// Tells whether a connection is in use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Usage(Arc<Occupant>);

/// One use of a connection, for as long as this lives.
pub(crate) struct InUse(Arc<Occupant>);

struct Occupant {
    address: IpAddr,
    /// Times count from here.
    started: Instant,
    /// Uses under way. One of a connection whose usage is not told.
    uses: AtomicUsize,
    /// When the last use ended, in milliseconds.
    idle_since_ms: AtomicU64,
    /// The place is wanted for another connection.
    recalled: Notify,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(most)),
            most,
            taken: Mutex::default(),
            next_number: AtomicU64::default(),
            started: Instant::now(),
        })
    }

    /// A place for a connection from `address`. When none is free it recalls that of an idle
    /// connection, and waits as long as there is none. `None` is impossible: the semaphore is never
    /// closed.
    pub(super) async fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        if let Ok(permit) = self.free.clone().try_acquire_owned() {
            return Some(self.occupy(address, permit));
        }
        loop {
            self.recall_one();
            let wait = tokio::time::timeout(LOOK_INTERVAL, self.free.clone().acquire_owned());
            if let Ok(permit) = wait.await {
                return Some(self.occupy(address, permit.ok()?));
            }
        }
    }

    fn occupy(self: &Arc<Self>, address: IpAddr, permit: OwnedSemaphorePermit) -> Place {
        let occupant = Arc::new(Occupant {
            address,
            started: self.started,
            uses: AtomicUsize::new(1),
            idle_since_ms: AtomicU64::new(now_ms(self.started)),
            recalled: Notify::new(),
        });
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.taken.lock().insert(number, occupant.clone());
        Place { occupant, number, places: self.clone(), _permit: permit }
    }

    /// Recalls the place that has been idle for longest: of the address that has more than half of
    /// all, if there is one, else of any.
    fn recall_one(&self) {
        let taken = self.taken.lock();
        let mut by_address: HashMap<IpAddr, usize> = HashMap::new();
        for occupant in taken.values() {
            *by_address.entry(occupant.address).or_default() += 1;
        }
        let crowd = by_address.into_iter().find(|(_, count)| count * 2 > self.most).map(|(address, _)| address);
        let idle_before_ms = now_ms(self.started).saturating_sub(LEAST_IDLE.as_millis() as u64);
        let longest_idle = taken
            .values()
            .filter(|occupant| crowd.is_none_or(|crowd| crowd == occupant.address))
            .filter_map(|occupant| Some((occupant.idle_since_ms()?, occupant)))
            .filter(|(since_ms, _)| *since_ms <= idle_before_ms)
            .min_by_key(|(since_ms, _)| *since_ms);
        if let Some((_, occupant)) = longest_idle {
            // It is not found again while it ends.
            occupant.uses.fetch_add(1, Ordering::Relaxed);
            occupant.recalled.notify_one();
        }
    }
}

fn now_ms(started: Instant) -> u64 {
    started.elapsed().as_millis() as u64
}

impl Occupant {
    /// `None` while it is in use.
    fn idle_since_ms(&self) -> Option<u64> {
        (self.uses.load(Ordering::Relaxed) == 0).then(|| self.idle_since_ms.load(Ordering::Relaxed))
    }

    fn end_use(&self) {
        self.idle_since_ms.store(now_ms(self.started), Ordering::Relaxed);
        self.uses.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    /// Where the use of the connection is told from now on. Before that it counts as in use.
    pub(crate) fn usage(&self) -> Usage {
        self.occupant.end_use();
        Usage(self.occupant.clone())
    }

    /// Returns when the connection is idle and its place is wanted for another.
    pub(crate) async fn recalled(&self) {
        self.occupant.recalled.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().remove(&self.number);
    }
}

impl Usage {
    /// A use begins.
    pub(crate) fn begin(&self) -> InUse {
        self.0.uses.fetch_add(1, Ordering::Relaxed);
        InUse(self.0.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.end_use();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// A place whose connection has been idle for so long.
    async fn idle(places: &Arc<Places>, address: [u8; 4], ms: u64) -> (Place, Usage) {
        let place = places.take(address.into()).await.unwrap();
        let usage = place.usage();
        place.occupant.idle_since_ms.store(now_ms(places.started) - ms, Ordering::Relaxed);
        (place, usage)
    }

    /// Places of a port that has been open for a minute.
    fn places(most: usize) -> Arc<Places> {
        let mut places = Arc::into_inner(Places::new(most)).unwrap();
        places.started -= Duration::from_secs(60);
        Arc::new(places)
    }

    fn is_recalled(place: &Place) -> bool {
        place.recalled().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_connection_that_was_idle_for_longest_makes_room() {
        let places = places(4);
        let (longest, usage) = idle(&places, [10, 0, 0, 1], 9_000).await;
        let longest_in_use = usage.begin();
        let (longer, _) = idle(&places, [10, 0, 0, 2], 5_000).await;
        let (short, _) = idle(&places, [10, 0, 0, 3], 10).await;
        let untold = places.take([10, 0, 0, 4].into()).await.unwrap();
        let mut newcomer = std::pin::pin!(places.take([10, 0, 0, 5].into()));
        assert!(newcomer.as_mut().now_or_never().is_none(), "there is no place yet");
        let recalled = [&longest, &longer, &short, &untold].map(is_recalled);
        assert_eq!(recalled, [false, true, false, false], "in use, idle, just used, usage not told");
        drop(longer);
        assert!(newcomer.await.is_some());
        drop(longest_in_use);
    }

    #[tokio::test]
    async fn the_address_with_most_connections_makes_room_first() {
        let places = places(4);
        let (lonely, _) = idle(&places, [10, 0, 0, 1], 50_000).await;
        let crowd = [idle(&places, [10, 0, 0, 2], 2_000).await.0, idle(&places, [10, 0, 0, 2], 3_000).await.0];
        let last = idle(&places, [10, 0, 0, 2], 4_000).await.0;
        assert!(places.take([10, 0, 0, 3].into()).now_or_never().is_none());
        assert!(is_recalled(&last) && !is_recalled(&lonely) && !crowd.iter().any(is_recalled));
    }

    #[tokio::test]
    async fn a_place_is_recalled_for_one_newcomer_only() {
        let places = places(2);
        let (first, _) = idle(&places, [10, 0, 0, 1], 5_000).await;
        let (second, _) = idle(&places, [10, 0, 0, 2], 4_000).await;
        assert!(places.take([10, 0, 0, 3].into()).now_or_never().is_none());
        assert!(places.take([10, 0, 0, 4].into()).now_or_never().is_none());
        assert!(is_recalled(&first) && is_recalled(&second));
        drop((first, second));
        assert!(places.taken.lock().is_empty());
        assert!(places.take([10, 0, 0, 3].into()).now_or_never().is_some());
    }
}
