//! The newest event that a node shows never goes back, across its restarts, is part of the log, and
//! is no older than what the node acknowledged before it was asked.

use std::collections::HashMap;
use std::time::Duration;

use super::{Violation, keeps_all, positions};
use crate::feed::NodeFeed;
use crate::history::{History, Write};
use crate::observations::Observations;

/// The name of the rule.
pub const RULE: &str = "heads";

/// Judges with the final log of the first node; another rule checks that all logs are equal.
pub fn check(history: &History, seen: &Observations, feeds: &[NodeFeed]) -> Vec<Violation> {
    let Some(feed) = feeds.first() else { return Vec::new() };
    let positions = positions(feed);
    let acknowledged = acknowledged(history);
    let mut newest: HashMap<u16, u64> = HashMap::new();
    let mut violations = Vec::new();
    // What a stream lets go may have been removed since.
    for head in seen.heads.iter().filter(|head| keeps_all(&head.stream)) {
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
        let of_node = acknowledged.get(&node).map_or(&[][..], Vec::as_slice);
        let earlier = of_node.partition_point(|(at, _)| *at < head.sent_at);
        if let Some((_, promised)) = earlier.checked_sub(1).map(|last| of_node[last]).filter(|(_, it)| *it > position) {
            violations.push(Violation::new(
                RULE,
                format!("node {node} showed position {position} at {at:?}, and had acknowledged {promised} before"),
            ));
        }
    }
    violations
}

/// By node: when it acknowledged something, in order, and the highest position until then.
fn acknowledged(history: &History) -> HashMap<u16, Vec<(Duration, u64)>> {
    let mut nodes: HashMap<u16, Vec<(Duration, u64)>> = HashMap::new();
    for (attempt, _, position) in history.writes.iter().flat_map(Write::acknowledgements) {
        nodes.entry(attempt.node).or_default().push((attempt.answered_at, position));
    }
    for of_node in nodes.values_mut() {
        of_node.sort_unstable();
        let mut highest = 0;
        for (_, position) in of_node {
            highest = highest.max(*position);
            *position = highest;
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{healthy, millis};
    use super::*;
    use crate::observations::HeadRead;

    fn heads(of: &[(u16, &str, &str)]) -> Observations {
        let head = |(node, stream, id): &(u16, &str, &str)| HeadRead {
            node: *node,
            sent_at: millis(0),
            answered_at: millis(1),
            stream: (*stream).to_owned(),
            id: (*id).to_owned(),
        };
        Observations { heads: of.iter().map(head).collect(), ..Observations::default() }
    }

    #[test]
    fn a_node_that_goes_back_is_seen_and_another_one_may_be_behind() {
        let (history, feeds) = healthy();
        assert_eq!(check(&history, &heads(&[(1, "b", "b0"), (1, "a", "a1")]), &feeds).len(), 1);
        assert_eq!(check(&history, &heads(&[(1, "b", "b0"), (2, "a", "a1"), (1, "a", "a2")]), &feeds), Vec::new());
    }

    #[test]
    fn an_event_that_was_shown_and_is_not_there_is_seen() {
        let (history, feeds) = healthy();
        assert_eq!(check(&history, &heads(&[(1, "a", "phantom")]), &feeds).len(), 1);
    }

    #[test]
    fn a_node_that_does_not_show_what_it_acknowledged_is_seen() {
        let (history, feeds) = healthy();
        let mut seen = heads(&[(1, "b", "b0")]);
        // Node 1 has acknowledged position 3 after 60 ms.
        seen.heads[0].sent_at = millis(60);
        assert_eq!(check(&history, &seen, &feeds), Vec::new());
        seen.heads[0].sent_at = millis(61);
        assert_eq!(check(&history, &seen, &feeds).len(), 1);
        seen.heads[0].node = 2;
        assert_eq!(check(&history, &seen, &feeds), Vec::new(), "another node may be behind");
    }
}
