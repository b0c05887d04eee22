//! Log lines about a lasting problem: each reason once, and again only after an interval.

use std::time::{Duration, Instant};

/// Reasons remembered at a time. More of them within one interval are beyond what a reader could
/// follow.
const MAX_REASONS: usize = 16;

/// The reasons that were logged lately about one subject.
#[derive(Debug)]
pub(super) struct LogReminder {
    interval: Duration,
    logged: Vec<(String, Instant)>,
    /// Whether a reason was logged since the subject was last well.
    complained: bool,
}

impl LogReminder {
    /// A reason that still holds is due again after `interval`.
    pub(super) fn every(interval: Duration) -> Self {
        Self { interval, logged: Vec::new(), complained: false }
    }

    /// Whether `reason` should be logged now. `true` counts as logged.
    pub(super) fn is_due(&mut self, reason: &str, now: Instant) -> bool {
        self.logged.retain(|(_, at)| now.duration_since(*at) < self.interval);
        if self.logged.len() >= MAX_REASONS || self.logged.iter().any(|(logged, _)| logged == reason) {
            return false;
        }
        self.logged.push((reason.to_owned(), now));
        self.complained = true;
        true
    }

    /// Records that the subject is well; returns whether a problem was logged before. Reasons stay
    /// remembered, so that a problem that comes and goes does not fill the disk.
    pub(super) fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.complained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn a_reason_is_logged_once_and_again_after_the_interval() {
        let mut reminder = LogReminder::every(INTERVAL);
        let start = Instant::now();
        let logged = (0..240).filter(|round| reminder.is_due("a", start + Duration::from_millis(250) * *round)).count();
        assert_eq!(logged, 2, "a minute of rounds");
    }

    #[test]
    fn another_reason_is_logged_at_once_and_one_that_returns_is_not() {
        let mut reminder = LogReminder::every(INTERVAL);
        let now = Instant::now();
        assert!(reminder.is_due("a", now));
        assert!(reminder.is_due("b", now));
        assert!(!reminder.is_due("a", now + INTERVAL / 2));
        assert!(reminder.is_over() && !reminder.is_over());
        assert!(!reminder.is_due("b", now + INTERVAL / 2), "also when it was well in between");
        assert!(!reminder.is_over());
        assert!(reminder.is_due("a", now + INTERVAL));
    }

    #[test]
    fn reasons_that_are_always_new_are_logged_within_a_limit() {
        let mut reminder = LogReminder::every(INTERVAL);
        let now = Instant::now();
        assert_eq!((0..100).filter(|number| reminder.is_due(&number.to_string(), now)).count(), MAX_REASONS);
        assert!(reminder.is_due("x", now + INTERVAL));
    }
}
