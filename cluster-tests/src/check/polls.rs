//! A long poll is woken by the events it waits for.

use std::collections::HashMap;
use std::time::Duration;

use super::Violation;
use crate::history::{History, Write};
use crate::observations::{Observations, Poll};

/// The name of the rule.
pub const RULE: &str = "long polls";

/// An event that a node has acknowledged wakes those who wait at that node within this time; a busy
/// machine may take as long.
const WAKE_LIMIT: Duration = Duration::from_secs(1);

/// What a node has acknowledged.
#[derive(Default)]
struct Acknowledged<'a> {
    /// When it acknowledged anything, in order.
    at: Vec<Duration>,
    /// By stream: when an event was acknowledged, and its number.
    events: HashMap<&'a str, Vec<(Duration, u64)>>,
}

/// Judges every poll, whether it was answered with an event in the end or with none.
pub fn check(history: &History, seen: &Observations) -> Vec<Violation> {
    let mut nodes: HashMap<u16, Acknowledged<'_>> = HashMap::new();
    for write in &history.writes {
        for (attempt, first_number, _) in Write::acknowledgements(write) {
            let last = first_number + (write.events.len() as u64).saturating_sub(1);
            let of_node = nodes.entry(attempt.node).or_default();
            of_node.at.push(attempt.answered_at);
            of_node.events.entry(&write.stream).or_default().push((attempt.answered_at, last));
        }
    }
    nodes.values_mut().for_each(|of_node| of_node.at.sort_unstable());
    let slept = |poll: &Poll| slept_through(poll, nodes.get(&poll.node)?);
    seen.polls.iter().filter_map(slept).collect()
}

/// The node acknowledged an event that the poll waited for; so much later it acknowledged something
/// else, so it was awake; and as much later the poll still had no answer.
fn slept_through(poll: &Poll, acknowledged: &Acknowledged<'_>) -> Option<Violation> {
    let events = acknowledged.events.get(poll.stream.as_str())?;
    let is_wanted = |(at, number): &&(Duration, u64)| *at >= poll.sent_at && *number >= poll.next;
    let (at, number) = events.iter().filter(is_wanted).min()?;
    let later = acknowledged.at.partition_point(|other| *other < *at + WAKE_LIMIT);
    let awake = acknowledged.at.get(later).filter(|awake| **awake + WAKE_LIMIT <= poll.answered_at)?;
    let (node, stream, next) = (poll.node, &poll.stream, poll.next);
    let (from, to) = (poll.sent_at, poll.answered_at);
    Some(Violation::new(
        RULE,
        format!(
            "node {node}: a poll of {stream} from {next} on slept from {from:?} to {to:?}, though it acknowledged {number} at {at:?}, and was awake at {awake:?}"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{acknowledged, attempt, millis, write};
    use super::*;

    fn judge(next: u64, answered_at: u64, awake_at: u64) -> usize {
        let writes = vec![
            write("a", -2, &["a0"], vec![attempt(400, 500, acknowledged(7, 9))]),
            write("b", -2, &["b0"], vec![attempt(400, awake_at, acknowledged(0, 10))]),
        ];
        let history = History { writes, ..History::default() };
        let (sent_at, answered_at) = (millis(100), millis(answered_at));
        let poll = Poll { node: 1, stream: "a".to_owned(), next, sent_at, answered_at, events: 1 };
        check(&history, &Observations { polls: vec![poll], ..Observations::default() }).len()
    }

    #[test]
    fn a_poll_that_sleeps_through_an_event_is_seen() {
        assert_eq!(judge(7, 3_100, 1_600), 1);
        assert_eq!(judge(8, 3_100, 1_600), 0, "it waited for another one");
        assert_eq!(judge(7, 1_700, 1_600), 0, "it had no time to wake");
        assert_eq!(judge(7, 3_100, 3_000), 0, "the node slept as well");
    }
}
