//! The rate at which a backup reads.

use std::time::{Duration, Instant};

/// Bytes per second of a backup that names no other rate: half of what a snapshot may take, so that
/// neither disk nor network is busy with it.
pub(crate) const DEFAULT_BYTES_PER_SECOND: u64 = 50 << 20;

/// The lowest rate; at a lower one a backup of some size would not end within a day.
pub(crate) const MIN_BYTES_PER_SECOND: u64 = 64 << 10;

/// Keeps reading within a rate.
#[derive(Debug)]
pub(crate) struct Pace {
    started: Instant,
    bytes: u64,
    bytes_per_second: u64,
}

impl Pace {
    /// Starts now.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { started: Instant::now(), bytes: 0, bytes_per_second: bytes_per_second.max(MIN_BYTES_PER_SECOND) }
    }

    /// How long to wait after these further bytes.
    pub(crate) fn after(&mut self, bytes: u64) -> Duration {
        self.bytes += bytes;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_second as f64);
        due.saturating_sub(self.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_the_rate_have_to_wait() {
        let mut pace = Pace::new(1 << 20);
        let wait = pace.after(10 << 20);
        assert!((Duration::from_secs(9)..=Duration::from_secs(10)).contains(&wait), "{wait:?}");
        assert_eq!(Pace::new(1 << 40).after(1), Duration::ZERO);
    }
}
