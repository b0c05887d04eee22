//! Counters of wrong passwords, per user and address, and per address over all users.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Wrong passwords in a row that are still compared. A mistyping user, or a program with an
/// outdated password, stays below this for a while; a guesser does not.
pub(crate) const MAX_FAILURES: u64 = 100;

/// Beyond that, one more attempt is compared in each interval of this length, right or wrong.
pub(crate) const ATTEMPT_INTERVAL: Duration = Duration::from_secs(2);

/// Wrong passwords from one address that are still compared, over all users. Many people may share
/// an address, but none of them may try one password after another for every user.
pub(crate) const MAX_ADDRESS_FAILURES: u64 = 10 * MAX_FAILURES;

/// Beyond that, one more attempt from the address is compared in each interval of this length. A
/// right password of one user does not cancel wrong ones of others.
pub(crate) const ADDRESS_ATTEMPT_INTERVAL: Duration = Duration::from_millis(200);

/// Counters of each kind. Pairs of user and address with the same hash share a counter, and so do
/// addresses. So no caller can displace a counter, and at worst a stranger waits together with a
/// guesser. Twice 512 KiB.
const COUNTERS: usize = 1 << 16;

/// Counters of failed attempts. Each is the moment (in ms since the start) at which all its
/// failures are forgiven, at one per interval: a bucket that needs no clock of its own.
pub(crate) struct Attempts {
    of_users: Box<[AtomicU64]>,
    of_addresses: Box<[AtomicU64]>,
    hasher: RandomState,
    started: Instant,
}

/// The counters of one user at one address, and of the address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counter {
    user: usize,
    address: usize,
}

/// How many failures are too many, and how long it takes until one is forgiven.
#[derive(Clone, Copy)]
struct Limit {
    failures: u64,
    interval_ms: u64,
}

const USER_LIMIT: Limit = Limit { failures: MAX_FAILURES, interval_ms: ATTEMPT_INTERVAL.as_millis() as u64 };
const ADDRESS_LIMIT: Limit =
    Limit { failures: MAX_ADDRESS_FAILURES, interval_ms: ADDRESS_ATTEMPT_INTERVAL.as_millis() as u64 };

impl Limit {
    fn is_reached(self, counter: &AtomicU64, now_ms: u64) -> bool {
        let forgiven_at = counter.load(Ordering::Relaxed);
        forgiven_at != 0 && forgiven_at > now_ms + (self.failures - 1) * self.interval_ms
    }

    fn count(self, counter: &AtomicU64, now_ms: u64) {
        let later = |forgiven_at: u64| Some(forgiven_at.max(now_ms) + self.interval_ms);
        let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }
}

fn counters() -> Box<[AtomicU64]> {
    (0..COUNTERS).map(|_| AtomicU64::new(0)).collect()
}

impl Default for Attempts {
    fn default() -> Self {
        Self { of_users: counters(), of_addresses: counters(), hasher: RandomState::new(), started: Instant::now() }
    }
}

impl Attempts {
    /// The counters for a claimed name, which may not be a user, and an address.
    pub(crate) fn counter(&self, login: &str, from: IpAddr) -> Counter {
        let network = network(from);
        let place = |hash: u64| hash as usize % COUNTERS;
        Counter { user: place(self.hasher.hash_one((login, network))), address: place(self.hasher.hash_one(network)) }
    }

    /// Whether no attempt may be compared now.
    pub(crate) fn is_exhausted(&self, counter: Counter) -> bool {
        let now = self.now_ms();
        USER_LIMIT.is_reached(&self.of_users[counter.user], now)
            || ADDRESS_LIMIT.is_reached(&self.of_addresses[counter.address], now)
    }

    /// Counts a wrong password.
    pub(crate) fn failed(&self, counter: Counter) {
        let now = self.now_ms();
        USER_LIMIT.count(&self.of_users[counter.user], now);
        ADDRESS_LIMIT.count(&self.of_addresses[counter.address], now);
    }

    /// Forgets the failures of the user at its address, after a right password.
    pub(crate) fn succeeded(&self, counter: Counter) {
        self.of_users[counter.user].store(0, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// The owner of one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn after_many_failures_no_attempt_is_compared_until_one_failure_is_forgiven() {
        let mut attempts = Attempts::default();
        let counter = attempts.counter("ann", HERE);
        for _ in 0..MAX_FAILURES {
            assert!(!attempts.is_exhausted(counter));
            attempts.failed(counter);
        }
        assert!(attempts.is_exhausted(counter));
        attempts.started -= ATTEMPT_INTERVAL;
        assert!(!attempts.is_exhausted(counter));
        attempts.failed(counter);
        assert!(attempts.is_exhausted(counter));
        attempts.succeeded(counter);
        assert!(!attempts.is_exhausted(counter));
    }

    #[test]
    fn an_address_is_exhausted_by_wrong_passwords_for_many_users_and_a_right_one_does_not_help() {
        let mut attempts = Attempts::default();
        let users = 2 * MAX_ADDRESS_FAILURES / MAX_FAILURES;
        let counter = |attempts: &Attempts, user: u64| attempts.counter(&format!("user-{user}"), HERE);
        for attempt in 0..MAX_ADDRESS_FAILURES {
            let counter = counter(&attempts, attempt % users);
            assert!(!attempts.is_exhausted(counter), "{attempt}");
            attempts.failed(counter);
        }
        let own = counter(&attempts, 0);
        assert!(attempts.is_exhausted(own) && attempts.is_exhausted(counter(&attempts, users)));
        attempts.succeeded(own);
        assert!(attempts.is_exhausted(own));
        assert!(!attempts.is_exhausted(attempts.counter("user-0", "192.0.2.1".parse().unwrap())));
        attempts.started -= ADDRESS_ATTEMPT_INTERVAL;
        assert!(!attempts.is_exhausted(own));
        attempts.failed(own);
        assert!(attempts.is_exhausted(own));
    }

    #[test]
    fn users_and_addresses_are_counted_separately_but_not_addresses_of_one_network() {
        let attempts = Attempts::default();
        let at = |login: &str, address: &str| attempts.counter(login, address.parse().unwrap()).user;
        assert_eq!(at("ann", "2001:db8::1"), at("ann", "2001:db8::ffff:1"));
        assert_eq!(at("ann", "10.0.0.1"), at("ann", "::ffff:10.0.0.1"));
        // Two of these may share a counter by chance, but not nearly all.
        let different = (0..64).filter(|n| at("ann", &format!("10.0.0.{n}")) != at("bob", &format!("10.0.0.{n}")));
        assert!(different.count() > 32);
    }
}
