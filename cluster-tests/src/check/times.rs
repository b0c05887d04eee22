//! The times of events never go back, neither in the log nor, therefore, in a stream, whatever the
//! clocks of the nodes do and whichever of them leads; and each event has one time on all nodes
//! (docs/operations.md, "Clocks").

use std::collections::HashMap;

use jiff::Timestamp;

use super::Violation;
use crate::feed::{NodeFeed, ReadEvent};
use crate::history::History;

/// The name of the rule.
pub const RULE: &str = "times";

/// Judges the log of each node, and compares it with that of the first one.
pub fn check(_: &History, feeds: &[NodeFeed]) -> Vec<Violation> {
    let fall = |feed: &NodeFeed| feed.events.windows(2).filter_map(|pair| fall(feed.node, pair)).collect::<Vec<_>>();
    let mut violations: Vec<Violation> = feeds.iter().flat_map(fall).collect();
    if let Some((first, others)) = feeds.split_first() {
        let times: HashMap<(&str, &str), Timestamp> =
            first.events.iter().map(|event| (key(event), event.updated)).collect();
        for other in others {
            violations.extend(other.events.iter().filter_map(|event| {
                let time = times.get(&key(event)).filter(|time| **time != event.updated)?;
                let (id, stream, nodes) = (&event.id, &event.stream, (first.node, other.node));
                Some(Violation::new(
                    RULE,
                    format!(
                        "event {id} of {stream} is of {time} on node {}, of {} on node {}",
                        nodes.0, event.updated, nodes.1
                    ),
                ))
            }));
        }
    }
    violations
}

fn key(event: &ReadEvent) -> (&str, &str) {
    (&event.stream, &event.id)
}

fn fall(node: u16, pair: &[ReadEvent]) -> Option<Violation> {
    let [earlier, later] = pair else { return None };
    (later.updated < earlier.updated).then(|| {
        let text = |event: &ReadEvent| format!("{}@{} of {}", event.number, event.stream, event.updated);
        Violation::new(RULE, format!("node {node} has {} right after {}", text(later), text(earlier)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::evidence::healthy;
    use super::*;

    /// Two nodes whose events have these seconds.
    fn feeds(seconds: [[i64; 4]; 2]) -> Vec<NodeFeed> {
        let (_, mut feeds) = healthy();
        for (feed, seconds) in feeds.iter_mut().zip(seconds) {
            for (event, second) in feed.events.iter_mut().zip(seconds) {
                event.updated = Timestamp::from_second(second).unwrap();
            }
        }
        feeds
    }

    fn count(seconds: [[i64; 4]; 2]) -> usize {
        check(&History::default(), &feeds(seconds)).len()
    }

    #[test]
    fn times_may_stand_still_and_go_on() {
        assert_eq!(count([[1, 1, 2, 9], [1, 1, 2, 9]]), 0);
    }

    #[test]
    fn a_time_that_goes_back_is_seen_on_every_node_that_has_it() {
        assert_eq!(count([[1, 1, 9, 2], [1, 1, 9, 2]]), 2);
        // In another stream than the event before.
        assert_eq!(count([[1, 4, 3, 9], [1, 4, 3, 9]]), 2);
    }

    #[test]
    fn a_time_that_is_another_one_on_another_node_is_seen() {
        assert_eq!(count([[1, 1, 2, 9], [1, 1, 2, 8]]), 1);
    }
}
