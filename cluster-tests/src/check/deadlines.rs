//! Every request has an answer within the deadline of a node, even if it says that nothing was done
//! or that nobody knows; only a frozen node cannot answer.

use super::Violation;
use crate::client::REQUEST_LIMIT;
use crate::history::{Attempt, History, Write};

/// The name of the rule.
pub const RULE: &str = "deadlines";

/// Judges every attempt of every write.
pub fn check(history: &History) -> Vec<Violation> {
    let late = |write: &Write, attempt: &Attempt| {
        let (node, sent_at, answered_at) = (attempt.node, attempt.sent_at, attempt.answered_at);
        let waited = answered_at.saturating_sub(sent_at);
        let was_frozen = history
            .pauses
            .iter()
            .any(|pause| pause.node == node && pause.from <= answered_at && pause.to.is_none_or(|to| sent_at <= to));
        (waited >= REQUEST_LIMIT && !was_frozen).then(|| {
            let (stream, answer) = (&write.stream, &attempt.answer);
            Violation::new(
                RULE,
                format!(
                    "node {node} left a write to {stream} of {sent_at:?} without an answer for {waited:?}: {answer:?}"
                ),
            )
        })
    };
    let attempts = history.writes.iter().flat_map(|write| write.attempts.iter().map(move |attempt| (write, attempt)));
    attempts.filter_map(|(write, attempt)| late(write, attempt)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{attempt, healthy, millis, unknown};
    use super::*;
    use crate::history::Pause;

    #[test]
    fn a_request_that_hangs_is_seen_unless_its_node_was_frozen() {
        let (mut history, _) = healthy();
        assert_eq!(check(&history), Vec::new());
        history.writes[0].attempts.push(attempt(1_000, 13_000, unknown()));
        assert_eq!(check(&history).len(), 1);
        let pause = |node, from, to| Pause { node, from: millis(from), to: Some(millis(to)) };
        history.pauses = vec![pause(2, 2_000, 3_000), pause(1, 500, 900), pause(1, 13_100, 14_000)];
        assert_eq!(check(&history).len(), 1);
        history.pauses.push(pause(1, 900, 1_000));
        assert_eq!(check(&history), Vec::new());
    }
}
