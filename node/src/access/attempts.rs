//! How often a wrong password was tried, per user and address.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Wrong passwords in a row that are looked at. Somebody who mistypes, or a program that was not told of a new password, stays below it
/// for a while; who guesses does not.
pub const MAX_FAILURES: u64 = 100;

/// After that one more attempt is looked at in this time, right or wrong.
pub const ATTEMPT_INTERVAL: Duration = Duration::from_secs(2);

/// Places for counters. Pairs of user and address of the same hash share one, so that nobody can push a counter out: at worst a
/// stranger waits together with a guesser. 512 KiB.
const COUNTERS: usize = 1 << 16;

/// Counters of failed attempts. Each is the moment (in ms since the start) until which its failures would take to be forgiven, one per
/// interval: a bucket that needs no clock of its own.
pub struct Attempts {
    counters: Box<[AtomicU64]>,
    hasher: RandomState,
    started: Instant,
}

/// The counter of one user at one address.
#[derive(Debug, Clone, Copy)]
pub struct Counter(usize);

impl Default for Attempts {
    fn default() -> Self {
        Self {
            counters: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            started: Instant::now(),
        }
    }
}

impl Attempts {
    /// The counter for a claimed name, which may be no user, and an address.
    pub fn counter(&self, login: &str, from: IpAddr) -> Counter {
        Counter(self.hasher.hash_one((login, network(from))) as usize % COUNTERS)
    }

    /// Whether no attempt is to be looked at now.
    pub fn is_exhausted(&self, counter: Counter) -> bool {
        let forgiven_at = self.counters[counter.0].load(Ordering::Relaxed);
        forgiven_at != 0 && forgiven_at > self.now_ms() + (MAX_FAILURES - 1) * interval_ms()
    }

    /// Counts a wrong password.
    pub fn failed(&self, counter: Counter) {
        let now = self.now_ms();
        let later = |forgiven_at: u64| Some(forgiven_at.max(now) + interval_ms());
        let _ = self.counters[counter.0].fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    /// Forgets the failures before a right password.
    pub fn succeeded(&self, counter: Counter) {
        self.counters[counter.0].store(0, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

fn interval_ms() -> u64 {
    ATTEMPT_INTERVAL.as_millis() as u64
}

/// Whoever has one IPv6 address has 2^64 of them.
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
    fn after_many_failures_nothing_is_looked_at_until_one_is_forgiven() {
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
    fn users_and_addresses_are_counted_apart_but_not_addresses_of_one_network() {
        let attempts = Attempts::default();
        let at = |login: &str, address: &str| attempts.counter(login, address.parse().unwrap()).0;
        assert_eq!(at("ann", "2001:db8::1"), at("ann", "2001:db8::ffff:1"));
        assert_eq!(at("ann", "10.0.0.1"), at("ann", "::ffff:10.0.0.1"));
        // Two of these may share a counter by chance, but not nearly all.
        let different = (0..64).filter(|n| at("ann", &format!("10.0.0.{n}")) != at("bob", &format!("10.0.0.{n}")));
        assert!(different.count() > 32);
    }
}
