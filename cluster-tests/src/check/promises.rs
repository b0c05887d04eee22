//! A read sees what it was promised: what the same node has acknowledged, the position it named,
//! or, where it asked for the leader, everything acknowledged before.

use super::Violation;
use crate::observations::Observations;

/// The name of the rule.
pub const RULE: &str = "promises";

/// Judges every read with a promise.
pub fn check(seen: &Observations) -> Vec<Violation> {
    let broken = seen.reads.iter().filter(|read| read.seen.is_none_or(|number| number < read.at_least));
    broken
        .map(|read| {
            let (node, stream, promise) = (read.node, &read.stream, read.promise);
            let (sent_at, at_least, number) = (read.sent_at, read.at_least, read.seen);
            Violation::new(
                RULE,
                format!("node {node}, read of {stream} by {promise:?} sent at {sent_at:?}: saw {number:?}, promised {at_least}"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observations::{Promise, StreamRead};

    fn read(at_least: u64, seen: Option<u64>) -> Observations {
        let read = StreamRead {
            node: 1,
            promise: Promise::Leader,
            stream: "a".to_owned(),
            sent_at: Duration::ZERO,
            answered_at: Duration::ZERO,
            at_least,
            seen,
        };
        Observations { reads: vec![read], ..Observations::default() }
    }

    #[test]
    fn a_stale_read_is_seen() {
        assert_eq!(check(&read(3, Some(2))).len(), 1);
        assert_eq!(check(&read(0, None)).len(), 1);
        assert_eq!(check(&read(3, Some(3))), Vec::new());
    }
}
