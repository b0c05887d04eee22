//! The numbers of a stream count 0, 1, 2, .. in log order, without holes and repeats.

use std::collections::HashMap;

use super::Violation;
use crate::feed::NodeFeed;
use crate::history::History;

/// The name of the rule.
pub const RULE: &str = "numbering";

/// Judges every stream of every node.
pub fn check(_history: &History, feeds: &[NodeFeed]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for feed in feeds {
        let mut next: HashMap<&str, u64> = HashMap::new();
        for event in &feed.events {
            let expected = next.entry(&event.stream).or_default();
            if event.number != *expected {
                let (node, stream, number) = (feed.node, &event.stream, event.number);
                violations.push(Violation::new(
                    RULE,
                    format!("node {node}: {stream} continues with number {number}, expected {expected}"),
                ));
            }
            *expected = event.number.saturating_add(1);
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{healthy, read};
    use super::*;

    #[test]
    fn a_hole_is_seen() {
        let (history, mut feeds) = healthy();
        feeds[0].events.remove(1);
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn a_repeated_number_is_seen() {
        let (history, mut feeds) = healthy();
        feeds[1].events.push(read("b", 0, "b1"));
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn a_stream_that_does_not_start_at_zero_is_seen() {
        let (history, mut feeds) = healthy();
        feeds[0].events.push(read("c", 1, "c1"));
        assert_eq!(check(&history, &feeds).len(), 1);
    }
}
