//! The checkers: one file each, each a function from evidence to violations.
//!
//! The log is the evidence: with the complete `$all` of every node and the history of the clients,
//! every check is linear in their size. Every checker has tests with a broken history, which it
//! must report.

pub mod access;
pub mod answered;
pub mod availability;
pub mod consumers;
pub mod deadlines;
pub mod heads;
pub mod linearizable;
pub mod logs;
pub mod numbering;
pub mod once;
pub mod order;
pub mod origin;
pub mod pages;
pub mod polls;
pub mod prefixes;
pub mod promises;
pub mod readiness;
pub mod real_time;
pub mod recovery;
pub mod refusals;
pub mod removals;
pub mod same_everywhere;
pub mod secrets;
pub mod stored;
pub mod streams;
pub mod times;
pub mod versions;

use std::collections::HashMap;
use std::fmt;

use crate::feed::{NodeFeed, ReadEvent};
use crate::history::History;
use crate::observations::Observations;

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The checker's name.
    pub rule: &'static str,
    /// The findings, for people.
    pub detail: String,
}

impl Violation {
    /// Of this rule.
    pub fn new(rule: &'static str, detail: String) -> Self {
        Self { rule, detail }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{}] {}", self.rule, self.detail)
    }
}

/// Violations of each rule that are shown: a broken cluster breaks every event.
const SHOWN_PER_RULE: usize = 5;

/// Evidence in, violations out.
type Rule = fn(&History, &[NodeFeed]) -> Vec<Violation>;

/// All rules about data. `feeds` holds the complete `$all` of every node. Streams that lose events
/// have rules of their own ([`removals`]).
pub fn data(history: &History, feeds: &[NodeFeed]) -> Vec<Violation> {
    let kept: Vec<NodeFeed> = feeds.iter().map(|feed| feed.of_streams(keeps_all)).collect();
    let rules: [Rule; 9] = [
        stored::check,
        once::check,
        numbering::check,
        order::check,
        refusals::check,
        origin::check,
        real_time::check,
        versions::check,
        answered::check,
    ];
    let of_kept = rules.iter().flat_map(|rule| rule(history, &kept));
    let of_all = [same_everywhere::check(history, feeds), times::check(history, feeds)];
    of_kept.chain(of_all.into_iter().flatten()).collect()
}

/// Whether a stream keeps all its events, whatever the scavenge does. Streams of the server have
/// metadata that let their oldest events go.
pub(crate) fn keeps_all(stream: &str) -> bool {
    !stream.starts_with('$') && !stream.starts_with(removals::PREFIX)
}

/// All rules about what readers saw while the cluster ran.
pub fn reads(history: &History, seen: &Observations, feeds: &[NodeFeed]) -> Vec<Violation> {
    let rules = [
        promises::check(seen),
        heads::check(history, seen, feeds),
        prefixes::check(seen, feeds),
        pages::check(seen),
        polls::check(history, seen),
        access::check(seen),
        consumers::check(seen),
        readiness::check(history, seen, feeds),
        removals::check(seen, feeds),
    ];
    rules.into_iter().flatten().chain(seen.troubles.iter().cloned()).collect()
}

/// An error that lists the violations, if there are any.
pub fn none(violations: &[Violation]) -> anyhow::Result<()> {
    if violations.is_empty() {
        return Ok(());
    }
    let mut shown: HashMap<&str, usize> = HashMap::new();
    let mut lines = Vec::new();
    for violation in violations {
        let count = shown.entry(violation.rule).or_default();
        *count += 1;
        if *count <= SHOWN_PER_RULE {
            lines.push(violation.to_string());
        }
    }
    let totals: Vec<String> = shown.iter().map(|(rule, count)| format!("{rule}: {count}")).collect();
    anyhow::bail!("{} violations ({})\n{}", violations.len(), totals.join(", "), lines.join("\n"))
}

/// Position of every event by (stream, id). The first occurrence counts; `once` reports repeated
/// ones.
fn positions(feed: &NodeFeed) -> HashMap<(&str, &str), u64> {
    placed(feed).into_iter().map(|(key, (position, _))| (key, position)).collect()
}

/// The same, with the event.
fn placed(feed: &NodeFeed) -> HashMap<(&str, &str), (u64, &ReadEvent)> {
    let mut placed = HashMap::with_capacity(feed.events.len());
    for (place, event) in feed.events.iter().enumerate() {
        placed.entry((event.stream.as_str(), event.id.as_str())).or_insert((feed.position(place), event));
    }
    placed
}

/// Evidence to build broken histories from.
#[cfg(test)]
mod evidence {
    use std::time::Duration;

    use jiff::Timestamp;

    use crate::feed::{NodeFeed, ReadEvent};
    use crate::history::{Answer, Attempt, History, SentEvent, Write};

    pub(super) fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    pub(super) fn sent(id: &str) -> SentEvent {
        SentEvent { id: id.to_owned(), event_type: "t".to_owned(), stored_data: format!("{{\"of\": \"{id}\"}}") }
    }

    pub(super) fn read(stream: &str, number: u64, id: &str) -> ReadEvent {
        let event = sent(id);
        ReadEvent {
            stream: stream.to_owned(),
            number,
            id: event.id,
            event_type: event.event_type,
            data: Some(event.stored_data),
            updated: Timestamp::UNIX_EPOCH,
        }
    }

    pub(super) fn attempt(sent_at: u64, answered_at: u64, answer: Answer) -> Attempt {
        Attempt { node: 1, sent_at: millis(sent_at), answered_at: millis(answered_at), answer }
    }

    pub(super) fn acknowledged(first_number: u64, position: u64) -> Answer {
        Answer::Acknowledged { first_number, position }
    }

    pub(super) fn refused() -> Answer {
        Answer::Refused { status: 400, reason: "Wrong expected EventNumber".to_owned() }
    }

    pub(super) fn unknown() -> Answer {
        Answer::Unknown { reason: "Write timeout".to_owned() }
    }

    pub(super) fn write(stream: &str, expected_version: i64, ids: &[&str], attempts: Vec<Attempt>) -> Write {
        Write {
            stream: stream.to_owned(),
            expected_version,
            events: ids.iter().map(|id| sent(id)).collect(),
            must_be_refused: false,
            attempts,
        }
    }

    /// Two acknowledged writes on two streams, and the feeds of two healthy nodes.
    pub(super) fn healthy() -> (History, Vec<NodeFeed>) {
        let mut history = History {
            writes: vec![
                write("a", -1, &["a0", "a1"], vec![attempt(0, 10, acknowledged(0, 1))]),
                write("b", -2, &["b0"], vec![attempt(20, 25, unknown()), attempt(30, 40, acknowledged(0, 2))]),
                write("a", 1, &["a2"], vec![attempt(50, 60, acknowledged(2, 3))]),
                write("a", -1, &["never"], vec![attempt(70, 80, refused())]),
            ],
            ..History::default()
        };
        history.writes[3].must_be_refused = true;
        let events = vec![read("a", 0, "a0"), read("a", 1, "a1"), read("b", 0, "b0"), read("a", 2, "a2")];
        let feeds = [1, 2].map(|node| NodeFeed::new(node, events.clone())).to_vec();
        (history, feeds)
    }

    #[test]
    fn a_healthy_run_has_no_violation() {
        let (history, feeds) = healthy();
        assert_eq!(super::data(&history, &feeds), Vec::new());
    }
}
