//! Places that connections share: the more of them there are, the fewer each has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Places of all connections together. Clones share them.
#[derive(Debug, Clone)]
pub struct Shares {
    holders: Arc<AtomicU32>,
    all: u32,
    least: u32,
    most: u32,
}

/// The places of one connection. They stay as many as there were for it at its beginning.
#[derive(Debug)]
pub struct Share {
    holders: Arc<AtomicU32>,
    places: u32,
}

impl Shares {
    /// So many places in all, of which each connection has at least `least`, whatever that comes to,
    /// and at most `most`.
    pub fn new(all: u32, least: u32, most: u32) -> Self {
        Self { holders: Arc::default(), all, least, most }
    }

    /// The places of one more connection.
    pub fn take(&self) -> Share {
        let holders = self.holders.fetch_add(1, Ordering::Relaxed) + 1;
        Share { holders: self.holders.clone(), places: (self.all / holders).clamp(self.least, self.most) }
    }
}

impl Share {
    /// How many there are.
    pub fn places(&self) -> u32 {
        self.places
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.holders.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ones_have_all_they_may_and_the_last_ones_what_everybody_has() {
        let shares = Shares::new(4_096, 16, 128);
        let held: Vec<Share> = (0..1_000).map(|_| shares.take()).collect();
        let places = |of: usize| held[of - 1].places();
        assert_eq!((places(1), places(32), places(64), places(256), places(1_000)), (128, 128, 64, 16, 16));
        let all: u32 = held.iter().map(Share::places).sum();
        assert!(all < 26_000, "{all}");
        drop(held);
        assert_eq!(shares.take().places(), 128);
    }
}
