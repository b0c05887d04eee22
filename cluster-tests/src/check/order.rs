//! The events of one write are adjacent, in the order in which they were sent: a write is stored as
//! a whole or not at all.

use super::{Violation, positions};
use crate::feed::NodeFeed;
use crate::history::History;

/// The name of the rule.
pub const RULE: &str = "order";

/// Judges acknowledged writes and writes with an unknown outcome alike.
pub fn check(history: &History, feeds: &[NodeFeed]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for feed in feeds {
        let positions = positions(feed);
        for write in &history.writes {
            let found: Vec<Option<u64>> = write
                .events
                .iter()
                .map(|event| positions.get(&(write.stream.as_str(), event.id.as_str())).copied())
                .collect();
            let absent = found.iter().all(Option::is_none);
            let together = found.windows(2).all(|pair| match pair {
                [Some(one), Some(next)] => one + 1 == *next,
                _ => false,
            });
            let whole = together && found.iter().all(Option::is_some);
            if !(absent || whole) {
                let (node, stream) = (feed.node, &write.stream);
                violations.push(Violation::new(
                    RULE,
                    format!("node {node}: the events of one write to {stream} are at positions {found:?}"),
                ));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{attempt, healthy, unknown, write};
    use super::*;

    #[test]
    fn a_write_stored_in_part_is_seen() {
        let (history, mut feeds) = healthy();
        feeds[0].events.remove(1);
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn a_write_torn_apart_is_seen() {
        let (history, mut feeds) = healthy();
        feeds[0].events.swap(1, 2);
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn events_of_a_write_in_another_order_are_seen() {
        let (history, mut feeds) = healthy();
        feeds[0].events.swap(0, 1);
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn an_unknown_write_may_be_absent() {
        let (mut history, feeds) = healthy();
        history.writes.push(write("b", -2, &["x", "y"], vec![attempt(0, 1, unknown())]));
        assert_eq!(check(&history, &feeds), Vec::new());
    }
}
