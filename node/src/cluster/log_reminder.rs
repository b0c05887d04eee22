//! Lines of the log about something that lasts: each reason once, and again only after a while.

use std::time::{Duration, Instant};

/// Reasons remembered at a time. More of them within one interval are no story that anybody could
/// follow.
const MAX_REASONS: usize = 16;

/// What the log was told lately about one subject.
#[derive(Debug)]
pub(super) struct LogReminder {
    interval: Duration,
    told: Vec<(String, Instant)>,
    /// Whether something was told since the subject was last well.
    complained: bool,
}

impl LogReminder {
    /// Repeats a reason that still holds after `interval`.
    pub(super) fn every(interval: Duration) -> Self {
        Self { interval, told: Vec::new(), complained: false }
    }

    /// Whether the log should be told of `reason` now; the answer counts as having told it.
    pub(super) fn is_due(&mut self, reason: &str, now: Instant) -> bool {
        self.told.retain(|(_, at)| now.duration_since(*at) < self.interval);
        if self.told.len() >= MAX_REASONS || self.told.iter().any(|(told, _)| told == reason) {
            return false;
        }
        self.told.push((reason.to_owned(), now));
        self.complained = true;
        true
    }

    /// The subject is well: whether the log was told otherwise. Reasons stay remembered, so that
    /// one that comes and goes fills no disk.
    pub(super) fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.complained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn a_reason_is_told_once_and_again_after_the_interval() {
        let mut reminder = LogReminder::every(INTERVAL);
        let start = Instant::now();
        let told = (0..240).filter(|round| reminder.is_due("a", start + Duration::from_millis(250) * *round)).count();
        assert_eq!(told, 2, "a minute of rounds");
    }

    #[test]
    fn another_reason_is_told_at_once_and_one_that_returns_is_not() {
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
    fn reasons_that_are_always_new_are_told_within_a_limit() {
        let mut reminder = LogReminder::every(INTERVAL);
        let now = Instant::now();
        assert_eq!((0..100).filter(|number| reminder.is_due(&number.to_string(), now)).count(), MAX_REASONS);
        assert!(reminder.is_due("x", now + INTERVAL));
    }
}
