//! No node says that it is ready while it lags further behind than the limit.

use std::time::Duration;

use super::{Violation, positions};
use crate::feed::NodeFeed;
use crate::history::{History, Write};
use crate::observations::Observations;

/// The name of the rule.
pub const RULE: &str = "readiness";

/// What the nodes of a run get as `--ready-lag-events`: more than one write has.
pub const LIMIT_EVENTS: u64 = 200;

/// A node knows how far the leader is by what it heard last: for 1.5 s it takes a silent leader for
/// alive, and it asks every half second, and waits 0.4 s for the answer.
const GRACE: Duration = Duration::from_millis(2_500);

/// Judges every node that said it was ready, by what it showed after that.
pub fn check(history: &History, seen: &Observations, feeds: &[NodeFeed]) -> Vec<Violation> {
    let Some(feed) = feeds.first() else { return Vec::new() };
    let positions = positions(feed);
    let mut acknowledged: Vec<(Duration, u64)> = history
        .writes
        .iter()
        .flat_map(Write::acknowledgements)
        .map(|(attempt, _, position)| (attempt.answered_at, position))
        .collect();
    acknowledged.sort_unstable();
    let highest: Vec<u64> = acknowledged
        .iter()
        .scan(0, |highest, (_, position)| {
            *highest = (*position).max(*highest);
            Some(*highest)
        })
        .collect();
    let mut violations = Vec::new();
    for read in seen.readiness.iter().filter(|read| read.is_ready) {
        let Some(before) = read.sent_at.checked_sub(GRACE) else { continue };
        let count = acknowledged.partition_point(|(at, _)| *at < before);
        let Some(had_to_know) = count.checked_sub(1).map(|last| highest[last]) else { continue };
        // An event that was removed since says nothing.
        let Some(shown) = positions.get(&(read.stream.as_str(), read.id.as_str())) else { continue };
        if had_to_know.saturating_sub(*shown) > LIMIT_EVENTS {
            let (node, at) = (read.node, read.sent_at);
            violations.push(Violation::new(
                RULE,
                format!("node {node} said that it was ready at {at:?}, and after that showed position {shown}; {had_to_know} was acknowledged before {before:?}"),
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{acknowledged, attempt, read, write};
    use super::*;
    use crate::observations::ReadinessRead;

    fn judge(is_ready: bool, asked_at: u64, shown: u64) -> usize {
        let events: Vec<_> = (0..300).map(|number| read("a", number, &format!("a{number}"))).collect();
        let writes = vec![write("a", -2, &["a299"], vec![attempt(900, 1_000, acknowledged(299, 299))])];
        let history = History { writes, ..History::default() };
        let (sent_at, stream) = (Duration::from_millis(asked_at), "a".to_owned());
        let read = ReadinessRead { node: 1, sent_at, is_ready, stream, id: format!("a{shown}") };
        let seen = Observations { readiness: vec![read], ..Observations::default() };
        check(&history, &seen, &[NodeFeed::new(1, events)]).len()
    }

    #[test]
    fn a_node_that_is_ready_and_far_behind_is_seen() {
        assert_eq!(judge(true, 4_000, 98), 1);
        assert_eq!(judge(true, 4_000, 99), 0, "so far behind it may be");
        assert_eq!(judge(false, 4_000, 98), 0, "it said that it was not");
        assert_eq!(judge(true, 3_000, 98), 0, "it had no time to hear of it");
    }
}
