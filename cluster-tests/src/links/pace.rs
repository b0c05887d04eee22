//! When bytes arrive.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::rule::Rule;

/// The timing of one direction of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    random: StdRng,
    /// When the last bytes arrive: later ones do not overtake them.
    last_due: Option<Instant>,
    /// When the line has sent all that it was given.
    line_free: Option<Instant>,
}

impl Pace {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), last_due: None, line_free: None }
    }

    /// When `bytes` bytes that are sent now arrive.
    pub(super) fn due(&mut self, now: Instant, bytes: usize, rule: &Rule) -> Instant {
        let jitter_us = u64::try_from(rule.delay.jitter.as_micros()).unwrap_or(u64::MAX);
        let jitter = Duration::from_micros(self.random.random_range(0..=jitter_us));
        let sent = match rule.bytes_per_second {
            None => now,
            Some(rate) => {
                let takes = Duration::from_secs_f64(bytes as f64 / f64::from(rate.get()));
                self.line_free.map_or(now, |free| free.max(now)) + takes
            }
        };
        self.line_free = Some(sent);
        let due = (sent + rule.delay.least + jitter).max(self.last_due.unwrap_or(now));
        self.last_due = Some(due);
        due
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::rule::Delay;
    use super::*;

    #[test]
    fn bytes_do_not_overtake_each_other_and_the_same_seed_gives_the_same_times() {
        let (least, jitter) = (Duration::from_millis(10), Duration::from_millis(50));
        let rule = Rule { delay: Delay { least, jitter }, ..Rule::default() };
        let now = Instant::now();
        let times = |seed| {
            let mut pace = Pace::new(seed);
            (0..100).map(|step| pace.due(now + Duration::from_millis(step), 1, &rule)).collect::<Vec<_>>()
        };
        let first = times(1);
        assert!(first.is_sorted());
        assert!(first[0] >= now + least);
        assert_eq!(first, times(1));
        assert_ne!(first, times(2));
    }

    #[test]
    fn a_slow_line_takes_as_long_as_its_bytes() {
        let rule = Rule { bytes_per_second: NonZeroU32::new(1_000), ..Rule::default() };
        let now = Instant::now();
        let mut pace = Pace::new(0);
        assert_eq!(pace.due(now, 500, &rule), now + Duration::from_millis(500));
        assert_eq!(pace.due(now, 500, &rule), now + Duration::from_secs(1));
        assert_eq!(pace.due(now + Duration::from_secs(5), 500, &rule), now + Duration::from_millis(5_500));
    }
}
