//! A refused event is never stored later, a write that had to be refused was not acknowledged, and
//! a write without a reason for refusal was not finally refused.

use super::{Violation, access, positions};
use crate::feed::NodeFeed;
use crate::history::{Answer, History};

/// The name of the rule.
pub const RULE: &str = "refusals";

/// Judges every refusal.
pub fn check(history: &History, feeds: &[NodeFeed]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for feed in feeds {
        let positions = positions(feed);
        for write in history.writes.iter().filter(|write| write.is_surely_not_written()) {
            for event in &write.events {
                if positions.contains_key(&(write.stream.as_str(), event.id.as_str())) {
                    let (node, id, stream) = (feed.node, &event.id, &write.stream);
                    violations
                        .push(Violation::new(RULE, format!("node {node}: refused event {id} is stored in {stream}")));
                }
            }
        }
    }
    for write in &history.writes {
        let stream = &write.stream;
        if write.must_be_refused && write.is_acknowledged() {
            violations.push(Violation::new(RULE, format!("a stale write to {stream} was acknowledged")));
        }
        // Another rule judges who is denied.
        let is_denial = |status: u16| status == 401 && stream.starts_with(access::PREFIX);
        for attempt in &write.attempts {
            match &attempt.answer {
                Answer::Refused { status, .. } if is_denial(*status) => {}
                Answer::Refused { status, reason } if !matches!(status, 0 | 503) && !write.must_be_refused => {
                    let expected = write.expected_version;
                    violations.push(Violation::new(
                        RULE,
                        format!("a good write to {stream} with version {expected} was refused: {reason}"),
                    ));
                }
                Answer::Refused { status, reason } if write.must_be_refused && !matches!(status, 0 | 400 | 503) => {
                    violations
                        .push(Violation::new(RULE, format!("a stale write to {stream} was refused with {reason}")));
                }
                Answer::Malformed { reason } => violations.push(Violation::new(RULE, reason.clone())),
                _ => {}
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{acknowledged, attempt, healthy, read, refused, write};
    use super::*;

    #[test]
    fn a_refused_event_that_is_stored_is_seen() {
        let (history, mut feeds) = healthy();
        assert_eq!(check(&history, &feeds), Vec::new());
        feeds[0].events.push(read("a", 3, "never"));
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn a_stale_write_that_is_acknowledged_is_seen() {
        let (mut history, feeds) = healthy();
        history.writes[3].attempts.push(attempt(90, 91, acknowledged(3, 4)));
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn a_good_write_that_is_refused_is_seen() {
        let (mut history, feeds) = healthy();
        history.writes.push(write("a", 2, &["a3"], vec![attempt(90, 91, refused())]));
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn a_malformed_success_is_seen() {
        let (mut history, feeds) = healthy();
        history.writes[0].attempts.push(attempt(90, 91, Answer::Malformed { reason: "no position".to_owned() }));
        assert_eq!(check(&history, &feeds).len(), 1);
    }
}
