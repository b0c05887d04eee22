//! How long messages took, from the moment when a connected consumer got them until it acknowledged
//! them.

use std::collections::VecDeque;
use std::time::Duration;

/// The newest ones count: 4 KiB for each connection.
const KEPT: usize = 1_000;

/// What is told of them: by name, the share of messages that took no longer.
const QUANTILES: [(&str, f64); 13] = [
    ("Median", 0.5),
    ("Fastest", 0.0),
    ("Quintile 1", 0.2),
    ("Quintile 2", 0.4),
    ("Quintile 3", 0.6),
    ("Quintile 4", 0.8),
    ("Quintile 5", 1.0),
    ("90%", 0.9),
    ("95%", 0.95),
    ("99%", 0.99),
    ("99.5%", 0.995),
    ("99.9%", 0.999),
    ("Highest", 1.0),
];

/// The latest latencies of one connection.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    /// In microseconds, of up to an hour.
    kept: VecDeque<u32>,
}

impl Latencies {
    /// A message took so long.
    pub(super) fn add(&mut self, latency: Duration) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// Figures by the names of the original, in milliseconds; none before the first message.
    pub(super) fn figures(&self) -> Vec<(String, u64)> {
        let mut sorted: Vec<u32> = self.kept.iter().copied().collect();
        sorted.sort_unstable();
        let Some(last) = sorted.len().checked_sub(1) else { return Vec::new() };
        let mean = sorted.iter().copied().map(u64::from).sum::<u64>() / sorted.len() as u64;
        let mut figures = vec![("Mean".to_owned(), milliseconds(mean))];
        figures.extend(QUANTILES.map(|(name, share)| {
            // The first one that so many are not above.
            let at = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1).min(last);
            (name.to_owned(), milliseconds(sorted[at].into()))
        }));
        figures
    }
}

/// To the nearest one.
fn milliseconds(microseconds: u64) -> u64 {
    (microseconds + 500) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(milliseconds: impl Iterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        milliseconds.for_each(|latency| latencies.add(Duration::from_millis(latency)));
        latencies
    }

    #[test]
    fn figures_say_how_many_messages_took_how_long() {
        assert_eq!(Latencies::default().figures(), []);
        let expected = [
            ("Mean", 501),
            ("Median", 500),
            ("Fastest", 1),
            ("Quintile 1", 200),
            ("Quintile 2", 400),
            ("Quintile 3", 600),
            ("Quintile 4", 800),
            ("Quintile 5", 1_000),
            ("90%", 900),
            ("95%", 950),
            ("99%", 990),
            ("99.5%", 995),
            ("99.9%", 999),
            ("Highest", 1_000),
        ];
        let expected = expected.map(|(name, figure)| (name.to_owned(), figure));
        assert_eq!(of((1..=1_000).rev()).figures(), expected);
        // Those before do not count any more.
        assert_eq!(of((5_000..6_000).chain(1..=1_000)).figures(), expected);
        assert!(of([7].into_iter()).figures().iter().all(|(_, figure)| *figure == 7));
    }

    #[test]
    fn a_latency_beyond_all_bounds_is_the_longest_one() {
        let mut latencies = Latencies::default();
        latencies.add(Duration::MAX);
        assert_eq!(latencies.figures().last(), Some(&("Highest".to_owned(), 4_294_967)));
    }
}
