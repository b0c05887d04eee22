//! What a node shows of the log while the cluster runs is a beginning of the log as it is in the
//! end.

use std::collections::HashMap;

use super::{Violation, keeps_all};
use crate::feed::NodeFeed;
use crate::observations::Observations;

/// The name of the rule.
pub const RULE: &str = "prefixes";

/// Compares each pinned reader with the final log of its node.
pub fn check(seen: &Observations, feeds: &[NodeFeed]) -> Vec<Violation> {
    // What a stream lets go may have been removed since.
    let last: HashMap<u16, NodeFeed> = feeds.iter().map(|feed| (feed.node, feed.of_streams(keeps_all))).collect();
    let mut violations = Vec::new();
    for read in seen.prefixes.iter().map(|read| read.of_streams(keeps_all)) {
        let Some(feed) = last.get(&read.node) else { continue };
        let (node, length) = (read.node, read.events.len());
        let differs = read.events.iter().zip(&feed.events).position(|(one, other)| one != other);
        if let Some(position) = differs {
            let (then, now) = (&read.events[position], &feed.events[position]);
            violations.push(Violation::new(
                RULE,
                format!("node {node} showed {then:?} at position {position}, and in the end {now:?}"),
            ));
        } else if length > feed.events.len() {
            let left = feed.events.len();
            violations.push(Violation::new(RULE, format!("node {node} showed {length} events, and in the end {left}")));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{healthy, read};
    use super::*;

    #[test]
    fn a_log_that_changes_or_shrinks_is_seen() {
        let (_, feeds) = healthy();
        let mut seen = Observations { prefixes: vec![feeds[0].clone()], ..Observations::default() };
        assert_eq!(check(&seen, &feeds), Vec::new());
        seen.prefixes[0].events.push(read("a", 3, "gone"));
        assert_eq!(check(&seen, &feeds).len(), 1);
        seen.prefixes[0].events[0] = read("a", 0, "other");
        assert_eq!(check(&seen, &feeds).len(), 1);
    }
}
