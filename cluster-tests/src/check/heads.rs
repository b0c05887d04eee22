//! The newest event that a node shows never goes back, across its restarts, and is part of the log.

use std::collections::HashMap;

use super::{Violation, positions};
use crate::feed::NodeFeed;
use crate::observations::Observations;

const RULE: &str = "heads";

/// Judges with the final log of the first node; another rule checks that all logs are equal.
pub fn check(seen: &Observations, feeds: &[NodeFeed]) -> Vec<Violation> {
    let Some(feed) = feeds.first() else { return Vec::new() };
    let positions = positions(feed);
    let mut newest: HashMap<u16, usize> = HashMap::new();
    let mut violations = Vec::new();
    for head in &seen.heads {
        let (node, at, stream, id) = (head.node, head.answered_at, &head.stream, &head.id);
        let Some(&position) = positions.get(&(stream.as_str(), id.as_str())) else {
            violations.push(Violation::new(
                RULE,
                format!("node {node} showed event {id} of {stream} at {at:?}, which is not in the log"),
            ));
            continue;
        };
        let before = newest.entry(node).or_default();
        if position < *before {
            violations.push(Violation::new(
                RULE,
                format!("node {node} went back from position {before} to {position} at {at:?}"),
            ));
        }
        *before = position.max(*before);
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{healthy, millis};
    use super::*;
    use crate::observations::HeadRead;

    fn heads(of: &[(u16, &str, &str)]) -> Observations {
        let head = |(node, stream, id): &(u16, &str, &str)| HeadRead {
            node: *node,
            answered_at: millis(1),
            stream: (*stream).to_owned(),
            id: (*id).to_owned(),
        };
        Observations { heads: of.iter().map(head).collect(), ..Observations::default() }
    }

    #[test]
    fn a_node_that_goes_back_is_seen_and_another_one_may_be_behind() {
        let (_, feeds) = healthy();
        assert_eq!(check(&heads(&[(1, "b", "b0"), (1, "a", "a1")]), &feeds).len(), 1);
        assert_eq!(check(&heads(&[(1, "b", "b0"), (2, "a", "a1"), (1, "a", "a2")]), &feeds), Vec::new());
    }

    #[test]
    fn an_event_that_was_shown_and_is_not_there_is_seen() {
        let (_, feeds) = healthy();
        assert_eq!(check(&heads(&[(1, "a", "phantom")]), &feeds).len(), 1);
    }
}
