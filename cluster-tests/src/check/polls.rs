//! A long poll is woken by the events it waits for.

use std::collections::HashMap;
use std::time::Duration;

use super::Violation;
use crate::history::{History, Write};
use crate::observations::Observations;

const RULE: &str = "long polls";

/// An event that a node has acknowledged wakes those who wait at that node within this time; a busy
/// machine may take as long.
const WAKE_LIMIT: Duration = Duration::from_secs(1);

/// Judges every poll that was answered without an event.
pub fn check(history: &History, seen: &Observations) -> Vec<Violation> {
    // By stream and node: when an event was acknowledged, and its number.
    let mut acknowledged: HashMap<(&str, u16), Vec<(Duration, u64)>> = HashMap::new();
    for write in &history.writes {
        for (attempt, first_number, _) in Write::acknowledgements(write) {
            let last = first_number + (write.events.len() as u64).saturating_sub(1);
            let all = acknowledged.entry((write.stream.as_str(), attempt.node)).or_default();
            all.push((attempt.answered_at, last));
        }
    }
    let mut violations = Vec::new();
    for poll in seen.polls.iter().filter(|poll| poll.events == 0) {
        let Some(latest) = poll.answered_at.checked_sub(WAKE_LIMIT) else { continue };
        let events = acknowledged.get(&(poll.stream.as_str(), poll.node)).map_or(&[][..], Vec::as_slice);
        let missed = events.iter().find(|(at, number)| (poll.sent_at..latest).contains(at) && *number >= poll.next);
        if let Some((at, number)) = missed {
            let (node, stream, next) = (poll.node, &poll.stream, poll.next);
            let (from, to) = (poll.sent_at, poll.answered_at);
            violations.push(Violation::new(
                RULE,
                format!("node {node}: a poll of {stream} from {next} on slept from {from:?} to {to:?}, though it acknowledged {number} at {at:?}"),
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{acknowledged, attempt, millis, write};
    use super::*;
    use crate::observations::Poll;

    fn judge(next: u64, answered_at: u64, events: usize) -> usize {
        let writes = vec![write("a", -2, &["a0"], vec![attempt(400, 500, acknowledged(7, 9))])];
        let history = History { writes, ..History::default() };
        let (sent_at, answered_at) = (millis(100), millis(answered_at));
        let poll = Poll { node: 1, stream: "a".to_owned(), next, sent_at, answered_at, events };
        check(&history, &Observations { polls: vec![poll], ..Observations::default() }).len()
    }

    #[test]
    fn a_poll_that_sleeps_through_an_event_is_seen() {
        assert_eq!(judge(7, 2_000, 0), 1);
        assert_eq!(judge(7, 2_000, 1), 0, "it was answered with events");
        assert_eq!(judge(8, 2_000, 0), 0, "it waited for another one");
        assert_eq!(judge(7, 1_400, 0), 0, "it had no time to wake");
    }
}
