//! Memory that exists already when it is counted: what clients have sent, and what they do not
//! read.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::Exhausted;

/// Bytes that many share, besides a floor that each has for itself.
#[derive(Debug)]
pub(crate) struct Pool {
    max: usize,
    floor: usize,
    share_of_free: usize,
    used: AtomicUsize,
    /// The same of each address. Few addresses share a counter, and which cannot be foreseen.
    used_by_address: Box<[AtomicUsize]>,
    hasher: RandomState,
    waiters: Waiters,
}

/// Those who wait until something is given back.
#[derive(Debug, Default)]
struct Waiters {
    count: AtomicUsize,
    freed: Notify,
}

impl Waiters {
    fn tell(&self) {
        if self.count.load(Ordering::SeqCst) > 0 {
            self.freed.notify_waiters();
        }
    }

    /// Returns once `is_so`, which is asked again whenever something was given back.
    async fn until(&self, mut is_so: impl FnMut() -> bool) {
        if is_so() {
            return;
        }
        let _waiting = Waiting::among(self);
        loop {
            // Before the question, so that nothing is given back unheard between the two.
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if is_so() {
                return;
            }
            freed.await;
        }
    }
}

/// One of the waiters, until this is dropped.
struct Waiting<'a>(&'a Waiters);

impl<'a> Waiting<'a> {
    fn among(waiters: &'a Waiters) -> Self {
        waiters.count.fetch_add(1, Ordering::SeqCst);
        Self(waiters)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Bytes that one connection may hold of each kind without asking anybody. Usual requests and
/// answers lie below, so that they touch nothing that connections share.
pub(crate) const FLOOR_BYTES: usize = 32 * 1024;

/// Beyond its floor a connection may hold one part in so many of what is free. So no connection has
/// much when many want it: n that grow together stop when one part in 1 + n/16 is still free (the
/// dynamic threshold of Choudhury and Hahne). What is sure for each is its floor.
pub(crate) const SHARE_OF_FREE: usize = 16;

/// All connections of one address have one part in so many of a pool, and share that in the same
/// way: thousands of them leave the other half to clients elsewhere.
pub(crate) const SHARE_OF_ADDRESS: usize = 2;

/// Counters of addresses in a pool.
const ADDRESS_COUNTERS: usize = 1024;

impl Pool {
    /// A pool of `bytes` for connections, each of which has a floor.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Self::shared(bytes, FLOOR_BYTES, SHARE_OF_FREE)
    }

    /// A pool of `bytes`. Who holds more than `floor` may hold one part in `share_of_free` of what
    /// is free beyond that.
    pub(crate) fn shared(bytes: usize, floor: usize, share_of_free: usize) -> Arc<Self> {
        Arc::new(Self {
            max: bytes,
            floor,
            share_of_free,
            used: AtomicUsize::new(0),
            used_by_address: (0..ADDRESS_COUNTERS).map(|_| AtomicUsize::new(0)).collect(),
            hasher: RandomState::new(),
            waiters: Waiters::default(),
        })
    }

    /// Bytes that are held beyond all floors.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    fn used_by_address(&self, counter: usize) -> usize {
        self.used_by_address[counter].load(Ordering::SeqCst)
    }

    /// Whether little is left, for all or for an address, or somebody waits although it holds
    /// little: whoever holds much and does not move is to leave. Who waits while half is free waits
    /// for its own share.
    fn is_wanted(&self, counter: usize) -> bool {
        let has_waiters = self.waiters.count.load(Ordering::SeqCst) > 0;
        let is_short = |used: usize, max: usize| used > max / 4 * 3 || (used >= max / 2 && has_waiters);
        is_short(self.used(), self.max) || is_short(self.used_by_address(counter), self.max / SHARE_OF_ADDRESS)
    }

    /// Takes `bytes` for a connection of this address, which then holds `share` of the pool. Two
    /// connections at once may take a little more for their address than it may have.
    fn try_take(&self, bytes: usize, share: usize, counter: usize) -> bool {
        let mut used = self.used();
        loop {
            let of_address = (self.max / SHARE_OF_ADDRESS).saturating_sub(self.used_by_address(counter));
            let free = self.max.saturating_sub(used).min(of_address);
            if bytes > free || share > free / self.share_of_free {
                return false;
            }
            match self.used.compare_exchange_weak(used, used + bytes, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => used = now,
            }
        }
        self.used_by_address[counter].fetch_add(bytes, Ordering::Relaxed);
        true
    }

    fn beyond_floor(&self, held: usize) -> usize {
        held.saturating_sub(self.floor)
    }

    /// Of a connection that gives something back, also of its own floor: who waits may be its own.
    fn give_back(&self, bytes: usize, counter: usize) {
        if bytes > 0 {
            self.used_by_address[counter].fetch_sub(bytes, Ordering::SeqCst);
            self.used.fetch_sub(bytes, Ordering::SeqCst);
        }
        self.waiters.tell();
    }
}

/// What one connection holds of a pool.
#[derive(Debug)]
pub(crate) struct Account {
    pool: Arc<Pool>,
    /// Counts what all connections of its address hold.
    counter: usize,
    held: AtomicUsize,
    /// Wait until the connection itself gives something back.
    waiters: Waiters,
}

impl Account {
    /// Of a connection from `address` that holds nothing.
    pub(crate) fn new(pool: &Arc<Pool>, address: IpAddr) -> Arc<Self> {
        Self::counted(pool, pool.hasher.hash_one(address) as usize % ADDRESS_COUNTERS)
    }

    fn counted(pool: &Arc<Pool>, counter: usize) -> Arc<Self> {
        Arc::new(Self { pool: pool.clone(), counter, held: AtomicUsize::new(0), waiters: Waiters::default() })
    }

    /// Bytes that the connection holds.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Whether others want what is left of the pool.
    pub(crate) fn is_wanted(&self) -> bool {
        self.pool.is_wanted(self.counter)
    }

    /// Whether the pool is wanted and this connection has some of it.
    pub(crate) fn is_in_the_way(&self) -> bool {
        self.held() > self.pool.floor && self.is_wanted()
    }

    /// Nothing yet, which can grow.
    pub(crate) fn holds_nothing(self: &Arc<Self>) -> Held {
        Held { account: self.clone(), bytes: 0 }
    }

    /// Holds `bytes` if there is room for them.
    pub(crate) fn try_hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        self.try_add(bytes, 0).then(|| Held { account: self.clone(), bytes })
    }

    /// Holds `bytes` as soon as there is room for them.
    ///
    /// # Errors
    /// There was none for as long as `patience`.
    pub(crate) async fn hold(self: &Arc<Self>, bytes: usize, patience: Duration) -> Result<Held, Exhausted> {
        let mut held = self.holds_nothing();
        held.grow(bytes, 0, patience).await?;
        Ok(held)
    }

    /// Returns once the connection holds less than `bytes`.
    pub(crate) async fn holds_less_than(&self, bytes: usize) {
        self.waiters.until(|| self.held() < bytes).await;
    }

    /// Adds `bytes` on the way to `goal` of them: where the connection may not have so many, it
    /// does not begin to take them.
    fn try_add(&self, bytes: usize, goal: usize) -> bool {
        let mut before = self.held();
        loop {
            let after = before.saturating_add(bytes);
            let share = self.pool.beyond_floor(after.max(goal));
            let of_pool = self.pool.beyond_floor(after) - self.pool.beyond_floor(before);
            if of_pool > 0 && !self.pool.try_take(of_pool, share, self.counter) {
                return false;
            }
            match self.held.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => {
                    if of_pool > 0 {
                        self.pool.give_back(of_pool, self.counter);
                    }
                    before = now;
                }
            }
        }
    }

    fn give_back(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::SeqCst);
        self.waiters.tell();
        let of_pool = self.pool.beyond_floor(before) - self.pool.beyond_floor(before - bytes);
        self.pool.give_back(of_pool, self.counter);
    }
}

/// Bytes that a connection makes the node hold, given back when this is dropped.
#[derive(Debug)]
#[must_use = "the bytes are given back when this is dropped"]
pub(crate) struct Held {
    account: Arc<Account>,
    bytes: usize,
}

impl Held {
    /// How much is held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Holds so many more bytes; false if there is no room for them.
    pub(crate) fn try_grow(&mut self, bytes: usize) -> bool {
        self.try_grow_towards(bytes, 0)
    }

    /// The same on the way to `goal` bytes; false also if there would not be room for these.
    pub(crate) fn try_grow_towards(&mut self, bytes: usize, goal: usize) -> bool {
        let has_grown = self.account.try_add(bytes, goal);
        if has_grown {
            self.bytes += bytes;
        }
        has_grown
    }

    /// [`Self::try_grow_towards`] as soon as there is room.
    ///
    /// # Errors
    /// There was none for as long as `patience`.
    pub(crate) async fn grow(&mut self, bytes: usize, goal: usize, patience: Duration) -> Result<(), Exhausted> {
        if !self.account.try_add(bytes, goal) {
            let account = &self.account;
            let added = account.pool.waiters.until(|| account.try_add(bytes, goal));
            tokio::time::timeout(patience, added).await.map_err(|_| Exhausted)?;
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back what is held beyond `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let excess = self.bytes.saturating_sub(bytes);
        if excess > 0 {
            self.bytes -= excess;
            self.account.give_back(excess);
        }
    }

    /// The same bytes, which are given back when the last slice of them is gone, wherever that is
    /// kept.
    pub(crate) fn own(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Owned { bytes, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.account.give_back(self.bytes);
        }
    }
}

struct Owned {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    const POOL_BYTES: usize = 1 << 20;

    #[test]
    fn what_lies_below_the_floor_is_not_of_the_pool() {
        let pool = Pool::new(POOL_BYTES);
        let account = Account::new(&pool, [10, 0, 0, 1].into());
        let first = account.try_hold(FLOOR_BYTES).unwrap();
        assert_eq!(pool.used(), 0);
        let second = account.try_hold(10).unwrap();
        assert_eq!((pool.used(), account.held()), (10, FLOOR_BYTES + 10));
        drop(first);
        assert_eq!((pool.used(), account.held()), (0, 10));
        drop(second);
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn bytes_are_held_until_the_last_slice_is_gone() {
        let account = Account::counted(&Pool::new(POOL_BYTES), 0);
        let text = account.try_hold(100).unwrap().own(Bytes::from(vec![7; 100]));
        let slice = text.slice(90..);
        drop(text);
        assert_eq!((account.held(), &slice[..]), (100, &[7; 10][..]));
        drop(slice);
        assert_eq!(account.held(), 0);
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_given_back_and_nobody_waits_for_ever() {
        let pool = Pool::new(POOL_BYTES);
        let (greedy, other) = (Account::counted(&pool, 0), Account::counted(&pool, 0));
        let most = FLOOR_BYTES + POOL_BYTES / SHARE_OF_ADDRESS / SHARE_OF_FREE;
        let held = greedy.try_hold(most).unwrap();
        assert!(greedy.try_hold(1).is_none() && !greedy.is_wanted());
        let mut waiting = Box::pin(greedy.hold(1, Duration::from_secs(3600)));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(!greedy.is_wanted(), "it waits for its own share");
        let others: Vec<_> = (0..2 * SHARE_OF_FREE).map(|_| Account::counted(&pool, 0)).collect();
        let of_others: Vec<_> =
            others.iter().map(|account| account.try_hold(FLOOR_BYTES + POOL_BYTES / 128).unwrap()).collect();
        assert!(greedy.is_in_the_way() && other.is_wanted() && !other.is_in_the_way());
        drop(of_others);
        assert_eq!(greedy.hold(1, Duration::ZERO).await.err(), Some(Exhausted));
        drop(held);
        assert_eq!(waiting.await.unwrap().bytes, 1);
        assert!(!greedy.is_wanted());
    }

    #[tokio::test]
    async fn a_connection_waits_until_it_holds_less_itself() {
        let account = Account::counted(&Pool::new(POOL_BYTES), 0);
        let mut held = account.try_hold(10).unwrap();
        let mut less = Box::pin(account.holds_less_than(10));
        assert!(less.as_mut().now_or_never().is_none());
        held.shrink_to(9);
        less.await;
    }

    #[test]
    fn one_address_leaves_half_to_others_however_many_connections_it_has() {
        let pool = Pool::new(POOL_BYTES);
        let (half, floor) = (POOL_BYTES / SHARE_OF_ADDRESS, FLOOR_BYTES);
        let crowd: Vec<_> = (0..10_000).map(|_| Account::counted(&pool, 0)).collect();
        let mut held: Vec<Held> = crowd.iter().filter_map(|account| account.try_hold(floor)).collect();
        assert_eq!(held.len(), crowd.len());
        for _ in 0..64 {
            held.extend(crowd.iter().filter_map(|account| account.try_hold(64)));
        }
        assert!(pool.used() > half * 9 / 10 && pool.used() <= half, "{}", pool.used());
        let stranger = Account::counted(&pool, 1);
        assert!(crowd[0].is_in_the_way() && !stranger.is_wanted());
        assert!(stranger.try_hold(floor + half / SHARE_OF_FREE).is_some());
    }

    #[test]
    fn connections_of_one_address_have_one_counter() {
        let pool = Pool::new(POOL_BYTES);
        let counters: std::collections::HashSet<_> =
            (0..=255).map(|last| Account::new(&pool, [10, 0, 0, last].into()).counter).collect();
        assert!(counters.len() > 100, "{}", counters.len());
        let counter = || Account::new(&pool, [10, 0, 0, 1].into()).counter;
        assert_eq!(counter(), counter());
    }

    proptest! {
        /// Whatever some connections hold, one of the same address or of another that holds nothing
        /// gets its floor and a share.
        #[test]
        fn greedy_connections_leave_room_for_others(
            steps in prop::collection::vec((0_usize..40, 1_usize..200_000, any::<bool>()), 0..400),
        ) {
            let pool = Pool::new(POOL_BYTES);
            let accounts: Vec<_> = (0..40).map(|number| Account::counted(&pool, number % 3)).collect();
            let mut held: Vec<Vec<Held>> = accounts.iter().map(|_| Vec::new()).collect();
            for (who, bytes, gives_back) in steps {
                if gives_back {
                    held[who].pop();
                } else {
                    held[who].extend(accounts[who].try_hold(bytes));
                }
                let beyond: usize = accounts.iter().map(|account| pool.beyond_floor(account.held())).sum();
                prop_assert_eq!(pool.used(), beyond);
                prop_assert!(beyond <= POOL_BYTES);
            }
            let share = POOL_BYTES / SHARE_OF_ADDRESS / (SHARE_OF_FREE + accounts.len());
            for counter in [0, 3] {
                let newcomer = Account::counted(&pool, counter);
                prop_assert!(newcomer.try_hold(FLOOR_BYTES + share / SHARE_OF_FREE).is_some());
            }
            drop(held);
            prop_assert_eq!((pool.used(), accounts.iter().map(|account| account.held()).sum::<usize>()), (0, 0));
            prop_assert!((0..4).all(|counter| pool.used_by_address(counter) == 0));
        }
    }
}
