//! Every write was answered: no client waited until its deadline.

use super::Violation;
use crate::feed::NodeFeed;
use crate::history::{Answer, History};

/// The name of the rule.
pub const RULE: &str = "answered";

/// Judges how every write ended.
pub fn check(history: &History, _feeds: &[NodeFeed]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for write in &history.writes {
        let definite = |answer: &Answer| match answer {
            Answer::Acknowledged { .. } | Answer::Malformed { .. } => true,
            Answer::Refused { status, .. } => !matches!(status, 0 | 503),
            Answer::Unknown { .. } => false,
        };
        if !write.attempts.iter().any(|attempt| definite(&attempt.answer)) {
            let last = write.attempts.last().map(|attempt| &attempt.answer);
            let (stream, count) = (&write.stream, write.attempts.len());
            violations.push(Violation::new(
                RULE,
                format!("a write to {stream} had no answer in {count} attempts, the last: {last:?}"),
            ));
        }
    }
    if !history.writes.iter().any(|write| write.is_acknowledged()) {
        violations.push(Violation::new(RULE, "not one write was acknowledged".to_owned()));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{attempt, healthy, unknown};
    use super::*;

    #[test]
    fn a_write_given_up_is_seen() {
        let (mut history, feeds) = healthy();
        history.writes[0].attempts = vec![attempt(0, 10, unknown())];
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn a_run_without_any_acknowledgement_is_no_pass() {
        assert_eq!(check(&History::default(), &[]).len(), 1);
    }
}
