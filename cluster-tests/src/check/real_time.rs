//! A write that was acknowledged before another was first sent precedes it in the log. Attempts
//! that were refused do not count as sent: they have not written, and never will.

use std::time::Duration;

use super::{Violation, positions};
use crate::feed::NodeFeed;
use crate::history::{Answer, Attempt, History};

/// The name of the rule.
pub const RULE: &str = "real time";

/// Judges with the first node's log; another rule checks that all logs are equal.
pub fn check(history: &History, feeds: &[NodeFeed]) -> Vec<Violation> {
    let Some(feed) = feeds.first() else { return Vec::new() };
    let positions = positions(feed);
    let position_of = |stream: &str, id: &str| positions.get(&(stream, id)).copied();

    let mut acknowledged: Vec<(Duration, u64)> = history
        .writes
        .iter()
        .flat_map(|write| write.acknowledgements())
        .map(|(attempt, _, position)| (attempt.answered_at, position))
        .collect();
    acknowledged.sort_unstable();

    let mut written: Vec<(Duration, u64, &str)> = history
        .writes
        .iter()
        .filter_map(|write| {
            let first = write.events.first()?;
            let may_write = |attempt: &&Attempt| !matches!(attempt.answer, Answer::Refused { .. });
            let sent_at = write.attempts.iter().filter(may_write).map(|attempt| attempt.sent_at).min()?;
            Some((sent_at, position_of(&write.stream, &first.id)?, write.stream.as_str()))
        })
        .collect();
    written.sort_unstable();

    let mut violations = Vec::new();
    let mut earlier = acknowledged.iter().peekable();
    let mut highest: Option<u64> = None;
    for (sent_at, position, stream) in written {
        while let Some((_, acknowledged)) = earlier.next_if(|(answered_at, _)| *answered_at < sent_at) {
            highest = highest.max(Some(*acknowledged));
        }
        if highest.is_some_and(|highest| highest >= position) {
            violations.push(Violation::new(
                RULE,
                format!(
                    "a write to {stream} sent at {sent_at:?} is at {position}, but {highest:?} was acknowledged before"
                ),
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{acknowledged, attempt, healthy, refused};
    use super::*;

    #[test]
    fn a_write_before_one_that_was_acknowledged_earlier_is_seen() {
        let (mut history, mut feeds) = healthy();
        for feed in &mut feeds {
            feed.events.swap(2, 3);
        }
        history.writes[1].attempts[1] = attempt(30, 40, acknowledged(0, 3));
        history.writes[2].attempts[0] = attempt(50, 60, acknowledged(2, 2));
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn writes_that_overlap_may_stand_in_any_order() {
        let (mut history, mut feeds) = healthy();
        for feed in &mut feeds {
            feed.events.swap(2, 3);
        }
        history.writes[1].attempts[1] = attempt(30, 40, acknowledged(0, 3));
        history.writes[2].attempts[0] = attempt(35, 60, acknowledged(2, 2));
        assert_eq!(check(&history, &feeds), Vec::new());
    }
    #[test]
    fn an_event_that_a_refused_attempt_has_written_is_seen() {
        let (mut history, mut feeds) = healthy();
        for feed in &mut feeds {
            feed.events.swap(2, 3);
        }
        history.writes[1].attempts[1] = attempt(30, 40, acknowledged(0, 3));
        history.writes[2].attempts = vec![attempt(5, 35, refused()), attempt(50, 60, acknowledged(2, 2))];
        assert_eq!(check(&history, &feeds).len(), 1);
    }
}
