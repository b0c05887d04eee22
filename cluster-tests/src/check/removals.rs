//! Of streams that lose events everything is left that readers can see, and nothing else, after a
//! run of the scavenge that came to its end.

use super::Violation;
use crate::feed::NodeFeed;
use crate::observations::Observations;
use crate::removal;

/// The name of the rule.
pub const RULE: &str = "removals";

/// How the names of such streams begin.
pub const PREFIX: &str = "removed-";

/// Compares every node with the model.
pub fn check(seen: &Observations, feeds: &[NodeFeed]) -> Vec<Violation> {
    let of_node = |feed: &NodeFeed| {
        let node = feed.node;
        let differences = removal::differences(&feed.events, &seen.removals).into_iter();
        differences.map(|what| Violation::new(RULE, format!("node {node}: {what}"))).collect::<Vec<_>>()
    };
    feeds.iter().flat_map(of_node).collect()
}

#[cfg(test)]
mod tests {
    use super::super::evidence::read;
    use super::*;
    use crate::removal::Stream;

    fn judge(left: &[u64]) -> usize {
        let events = left.iter().map(|number| read("removed-1-1", *number, &format!("e{number}"))).collect();
        let stream = Stream::truncated(&["e0", "e1", "e2", "e3"], 2);
        let removals = [("removed-1-1".to_owned(), stream)].into();
        check(&Observations { removals, ..Observations::default() }, &[NodeFeed::new(1, events)]).len()
    }

    #[test]
    fn an_event_that_readers_see_and_is_gone_is_seen() {
        assert_eq!(judge(&[2, 3]), 0);
        assert_eq!(judge(&[3]), 1);
        assert_eq!(judge(&[2]), 1);
        assert_eq!(judge(&[]), 1);
    }

    #[test]
    fn an_event_that_had_to_go_is_seen() {
        assert_eq!(judge(&[1, 2, 3]), 1);
    }
}
