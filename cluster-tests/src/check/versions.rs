//! A write with an exact expected version is stored directly after the event that it expected.

use super::{Violation, placed};
use crate::feed::NodeFeed;
use crate::history::History;

/// The name of the rule.
pub const RULE: &str = "versions";

/// Judges stored writes, acknowledged or not. Another rule checks that numbers have no holes.
pub fn check(history: &History, feeds: &[NodeFeed]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for feed in feeds {
        let placed = placed(feed);
        for write in history.writes.iter().filter(|write| write.expected_version >= -1) {
            let Some(first) = write.events.first() else { continue };
            let Some((_, event)) = placed.get(&(write.stream.as_str(), first.id.as_str())) else { continue };
            let number = event.number;
            if i64::try_from(number).ok() != Some(write.expected_version + 1) {
                let (node, stream, expected) = (feed.node, &write.stream, write.expected_version);
                violations.push(Violation::new(
                    RULE,
                    format!("node {node}: a write to {stream} that expected {expected} is stored at number {number}"),
                ));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::healthy;
    use super::*;

    #[test]
    fn a_condition_that_did_not_hold_is_seen() {
        let (mut history, feeds) = healthy();
        history.writes[2].expected_version = 0;
        assert_eq!(check(&history, &feeds).len(), 2, "one per node");
    }
}
