//! An event id occurs once in its stream, and every acknowledgement of a write names the same
//! number and position.

use std::collections::HashSet;

use super::Violation;
use crate::feed::NodeFeed;
use crate::history::History;

/// The name of the rule.
pub const RULE: &str = "once";

/// Judges feeds and repeated acknowledgements.
pub fn check(history: &History, feeds: &[NodeFeed]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for feed in feeds {
        let mut seen = HashSet::with_capacity(feed.events.len());
        for event in &feed.events {
            if !seen.insert((event.stream.as_str(), event.id.as_str())) {
                let (node, id, stream) = (feed.node, &event.id, &event.stream);
                violations.push(Violation::new(RULE, format!("node {node}: event {id} is in {stream} more than once")));
            }
        }
    }
    for write in &history.writes {
        let named: HashSet<(u64, u64)> =
            write.acknowledgements().map(|(_, number, position)| (number, position)).collect();
        if named.len() > 1 {
            let stream = &write.stream;
            violations.push(Violation::new(
                RULE,
                format!("a write to {stream} was acknowledged with different (number, position): {named:?}"),
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{acknowledged, attempt, healthy, read};
    use super::*;

    #[test]
    fn an_event_stored_twice_is_seen() {
        let (history, mut feeds) = healthy();
        feeds[0].events.push(read("a", 3, "a2"));
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn the_same_id_in_two_streams_is_no_repeat() {
        let (history, mut feeds) = healthy();
        feeds[0].events.push(read("c", 0, "a2"));
        assert_eq!(check(&history, &feeds), Vec::new());
    }

    #[test]
    fn two_acknowledgements_with_different_numbers_are_seen() {
        let (mut history, feeds) = healthy();
        history.writes[1].attempts.push(attempt(50, 60, acknowledged(1, 2)));
        assert_eq!(check(&history, &feeds).len(), 1);
    }
}
