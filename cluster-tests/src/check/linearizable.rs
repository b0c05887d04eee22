//! A second opinion on histories: the linearizability checker of `todc-utils` is asked whether what
//! clients saw of each stream can be told as one operation after the other on a list with a
//! version. It knows nothing of the other rules.
//!
//! The log says in which order the writes of a stream stand, and cuts its history into windows, so
//! that the search stays small. A window begins with the list as the log has it there and ends with
//! a read of the log. Between them are, each with the time from its first request to its answer:
//!
//! - writes that the log has in the window, and those that were acknowledged with a number in it;
//!   without an acknowledgement they may have taken effect at any time;
//! - refusals for a wrong version, which need a version other than the expected one;
//! - reads that asked for the leader, which need the newest number that they saw.
//!
//! A refusal or a read counts where it certainly lies within the window. A window that is not
//! decided within [`MAX_STEPS`] proves nothing, and is counted.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::Action;
use todc_utils::specifications::Specification;

use super::Violation;
use crate::feed::{NodeFeed, ReadEvent};
use crate::history::{Answer, History, Write};
use crate::observations::{Observations, Promise};

/// The name of the rule.
pub const RULE: &str = "linearizable";

/// Writes of the log in a window.
const WINDOW: usize = 48;

/// The next window begins so many writes later: half a window, so that nearly everything that lies
/// across the border of one lies within another.
const STEP: usize = WINDOW / 2;

/// Steps of the search in one window. Histories that are linearizable need about one for each
/// operation.
const MAX_STEPS: u32 = 100_000;

/// Operations of a window that are printed.
const SHOWN: usize = 12;

/// What was asked of the checker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opinion {
    /// Windows that are not linearizable.
    pub violations: Vec<Violation>,
    /// Windows that were decided.
    pub decided: usize,
    /// Operations in them.
    pub operations: usize,
    /// Windows that were not decided within the limit.
    pub undecided: Vec<String>,
}

/// Judges with the first node's log; another rule checks that all logs are equal.
pub fn check(history: &History, seen: &Observations, feeds: &[NodeFeed]) -> Opinion {
    let mut opinion = Opinion::default();
    let Some(feed) = feeds.first() else { return opinion };
    let mut streams: Vec<&str> = history.writes.iter().map(|write| write.stream.as_str()).collect();
    streams.sort_unstable();
    streams.dedup();
    for name in streams {
        let stream = Stream::new(name, history, feed);
        for first in (0..stream.runs.len().max(1)).step_by(STEP) {
            stream.judge(first, seen, &mut opinion);
            if first + WINDOW >= stream.runs.len() {
                break;
            }
        }
    }
    opinion
}

/// A list with a version, as far as it matters: its length, and a hash of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct List {
    next: u64,
    content: u64,
}

impl List {
    /// The list with one more event: the n-th of a write.
    fn with(self, write: usize, event: usize) -> Self {
        let mut hasher = DefaultHasher::new();
        (self.content, write, event).hash(&mut hasher);
        Self { next: self.next + 1, content: hasher.finish() }
    }
}

/// An operation and its outcome.
#[derive(Debug, Clone, Copy)]
enum Operation {
    /// The list as a window finds it.
    Begin(List),
    /// A write; with the number of its first event where that was told.
    Append { write: usize, events: usize, expected: i64, first_number: Option<u64> },
    /// A refusal: the version was not this one.
    Refused { expected: i64 },
    /// A read of the newest number.
    Newest(Option<u64>),
    /// The list as a window leaves it.
    End(List),
}

/// The specification.
struct Versioned;

thread_local! {
    /// Steps that the search on this thread still has.
    static STEPS: Cell<u32> = const { Cell::new(0) };
}

impl Specification for Versioned {
    type State = Option<List>;
    type Operation = Operation;

    fn init() -> Self::State {
        None
    }

    fn apply(operation: &Operation, state: &Self::State) -> (bool, Self::State) {
        let steps = STEPS.get();
        STEPS.set(steps.saturating_sub(1));
        let refused = (false, *state);
        let Some(list) = *state else {
            return match operation {
                Operation::Begin(list) => (true, Some(*list)),
                _ => refused,
            };
        };
        let is_version = |expected: i64| i64::try_from(list.next) == Ok(expected + 1);
        let is_possible = match operation {
            // Ends the search, which finds nothing more that is possible.
            _ if steps == 0 => false,
            Operation::Begin(_) => false,
            Operation::Append { expected, first_number, .. } => {
                (*expected < -1 || is_version(*expected)) && first_number.is_none_or(|number| number == list.next)
            }
            Operation::Refused { expected } => !is_version(*expected),
            Operation::Newest(newest) => *newest == list.next.checked_sub(1),
            Operation::End(end) => *end == list,
        };
        match operation {
            _ if !is_possible => refused,
            Operation::Append { write, events, .. } => {
                (true, Some((0..*events).fold(list, |list, event| list.with(*write, event))))
            }
            _ => (true, *state),
        }
    }
}

/// An operation with the time of its first request, and of its answer if there is one.
#[derive(Debug, Clone, Copy)]
struct Timed {
    from: Duration,
    to: Option<Duration>,
    operation: Operation,
}

/// Events of one write that stand side by side in the log.
#[derive(Debug)]
struct Run<'a> {
    /// `None` for events that nobody has sent.
    write: Option<usize>,
    first_number: u64,
    events: Vec<&'a ReadEvent>,
}

/// What is known of one stream.
struct Stream<'a> {
    name: &'a str,
    history: &'a History,
    /// The stream as the log has it.
    runs: Vec<Run<'a>>,
}

impl<'a> Stream<'a> {
    fn new(name: &'a str, history: &'a History, feed: &'a NodeFeed) -> Self {
        let own = history.writes.iter().enumerate().filter(|(_, write)| write.stream == name);
        let ids = own.flat_map(|(at, write)| write.events.iter().map(move |event| (event.id.as_str(), at)));
        let ids: HashMap<&str, usize> = ids.collect();
        let mut runs: Vec<Run<'a>> = Vec::new();
        for event in feed.events.iter().filter(|event| event.stream == name) {
            let write = ids.get(event.id.as_str()).copied();
            let is_whole =
                |run: &Run<'_>| write.is_none_or(|write| run.events.len() == history.writes[write].events.len());
            match runs.last_mut().filter(|run| run.write == write && !is_whole(run)) {
                Some(run) => run.events.push(event),
                None => runs.push(Run { write, first_number: event.number, events: vec![event] }),
            }
        }
        Self { name, history, runs }
    }

    /// Judges the window that begins with this run of the log.
    fn judge(&self, first: usize, seen: &Observations, opinion: &mut Opinion) {
        let end = (first + WINDOW).min(self.runs.len());
        let begin = List { next: self.number_at(first), content: 0 };
        let after = self.runs[first..end].iter().fold(begin, |list, run| self.list_with(list, run));
        let mut operations = self.writes(first, end);
        operations.extend(self.refusals(first, end));
        operations.extend(self.reads(first, end, seen));
        let count = operations.len();
        let place = format!("{} from number {} to {}", self.name, begin.next, after.next);
        STEPS.set(MAX_STEPS);
        let is_linearizable = WGLChecker::<Versioned>::is_linearizable(window(begin, &operations, after));
        if STEPS.get() == 0 {
            opinion.undecided.push(place);
            return;
        }
        opinion.decided += 1;
        opinion.operations += count;
        if !is_linearizable {
            opinion.violations.push(Violation::new(RULE, format!("{place}: {}", described(operations))));
        }
    }

    /// The number of the first event of a run, or of the one behind the last.
    fn number_at(&self, at: usize) -> u64 {
        let behind = |run: &Run<'_>| run.first_number + run.events.len() as u64;
        self.runs.get(at).map_or_else(|| self.runs.last().map_or(0, behind), |run| run.first_number)
    }

    fn list_with(&self, list: List, run: &Run<'_>) -> List {
        run.events.iter().fold(list, |list, event| {
            let place = |write: usize| {
                self.history.writes[write].events.iter().position(|sent| sent.id == event.id).map(|at| (write, at))
            };
            // What nobody has sent is no part of any write.
            let (write, at) = run.write.and_then(place).unwrap_or((usize::MAX, 0));
            list.with(write, at)
        })
    }

    /// Writes that are in the window of the log, or were acknowledged as if they were.
    fn writes(&self, first: usize, end: usize) -> Vec<Timed> {
        let numbers = self.number_at(first)..self.number_at(end);
        let stored: Vec<usize> = self.runs[first..end].iter().filter_map(|run| run.write).collect();
        let own = self.history.writes.iter().enumerate().filter(|(_, write)| write.stream == self.name);
        own.filter_map(|(at, write)| {
            let answer = first_answer(write);
            let is_here = match answer {
                Some((_, number)) => numbers.contains(&number) || stored.contains(&at),
                None => stored.contains(&at) && !write.is_surely_not_written(),
            };
            let from = write.attempts.iter().map(|attempt| attempt.sent_at).min()?;
            let operation = Operation::Append {
                write: at,
                events: write.events.len(),
                expected: write.expected_version,
                first_number: answer.map(|(_, number)| number),
            };
            is_here.then_some(Timed { from, to: answer.map(|(answered_at, _)| answered_at), operation })
        })
        .collect()
    }

    /// Refusals for a wrong version.
    fn refusals(&self, first: usize, end: usize) -> Vec<Timed> {
        let is_of_version = |write: &&Write| write.stream == self.name && write.expected_version >= -1;
        let writes = self.history.writes.iter().filter(is_of_version);
        let attempts = writes.flat_map(|write| write.attempts.iter().map(|attempt| (write.expected_version, attempt)));
        let refused = attempts.filter(|(_, attempt)| matches!(attempt.answer, Answer::Refused { status: 400, .. }));
        let timed = refused.map(|(expected, attempt)| Timed {
            from: attempt.sent_at,
            to: Some(attempt.answered_at),
            operation: Operation::Refused { expected },
        });
        timed.filter(|timed| self.is_within(first, end, timed)).collect()
    }

    /// Reads that asked for the leader.
    fn reads(&self, first: usize, end: usize, seen: &Observations) -> Vec<Timed> {
        let of_leader = seen.reads.iter().filter(|read| read.promise == Promise::Leader && read.stream == self.name);
        let timed = of_leader.map(|read| Timed {
            from: read.sent_at,
            to: Some(read.answered_at),
            operation: Operation::Newest(read.seen),
        });
        timed.filter(|timed| self.is_within(first, end, timed)).collect()
    }

    /// Whether an operation certainly took effect between the writes before and behind the window.
    fn is_within(&self, first: usize, end: usize, timed: &Timed) -> bool {
        let answered_at = |run: &Run<'_>| first_answer(&self.history.writes[run.write?]).map(|(at, _)| at);
        // One of the window or behind it was acknowledged, or the last one before it: so all before
        // it were stored.
        let is_behind =
            first == 0 || self.runs[first - 1..].iter().filter_map(answered_at).any(|answered| answered < timed.from);
        let sent_at = |run: &Run<'_>| {
            let write = &self.history.writes[run.write?];
            write.attempts.iter().map(|attempt| attempt.sent_at).min()
        };
        let next = self.runs.get(end).map(|run| sent_at(run).unwrap_or_default());
        is_behind && next.is_none_or(|next| timed.to.is_some_and(|answered| answered < next))
    }
}

/// Time and number of the acknowledgement that came first.
fn first_answer(write: &Write) -> Option<(Duration, u64)> {
    write.acknowledgements().map(|(attempt, number, _)| (attempt.answered_at, number)).min()
}

/// The history of a window: its beginning and its end are apart from everything else.
fn window(begin: List, operations: &[Timed], end: List) -> todc_utils::linearizability::history::History<Operation> {
    let mut moments = Vec::with_capacity(2 * operations.len());
    for (at, timed) in operations.iter().enumerate() {
        // At the same time, requests come before answers: what touches may have overlapped.
        moments.push((timed.from, 0, at, Action::Call(timed.operation)));
        moments.push((timed.to.unwrap_or(Duration::MAX), 1, at, Action::Response(timed.operation)));
    }
    moments.sort_by_key(|(time, order, at, _)| (*time, *order, *at));
    let (first, last) = (operations.len(), operations.len() + 1);
    let mut actions =
        vec![(first, Action::Call(Operation::Begin(begin))), (first, Action::Response(Operation::Begin(begin)))];
    actions.extend(moments.into_iter().map(|(_, _, at, action)| (at, action)));
    actions.extend([(last, Action::Call(Operation::End(end))), (last, Action::Response(Operation::End(end)))]);
    todc_utils::linearizability::history::History::from_actions(actions)
}

/// The operations in the order of their requests, the last ones of many.
fn described(mut operations: Vec<Timed>) -> String {
    operations.sort_by_key(|timed| timed.from);
    let left_out = operations.len().saturating_sub(SHOWN);
    let lines = operations.iter().skip(left_out);
    let lines: Vec<String> =
        lines.map(|timed| format!("{:?} at {:?} to {:?}", timed.operation, timed.from, timed.to)).collect();
    format!("{} operations, the last of them {}", operations.len(), lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{acknowledged, attempt, healthy, millis, read, refused, unknown, write};
    use super::*;
    use crate::observations::StreamRead;

    fn leader_read(sent_at: u64, answered_at: u64, seen: Option<u64>) -> StreamRead {
        StreamRead {
            node: 1,
            promise: Promise::Leader,
            stream: "a".to_owned(),
            sent_at: millis(sent_at),
            answered_at: millis(answered_at),
            at_least: 0,
            seen,
        }
    }

    fn seen(reads: Vec<StreamRead>) -> Observations {
        Observations { reads, ..Observations::default() }
    }

    /// How many windows are not linearizable; all have to be decided.
    fn violations(history: &History, seen: &Observations, feeds: &[NodeFeed]) -> usize {
        let opinion = check(history, seen, feeds);
        assert_eq!(opinion.undecided, Vec::<String>::new());
        opinion.violations.len()
    }

    /// A stream with so many writes of one event, one after the other.
    fn long(writes: u64) -> (History, Vec<NodeFeed>) {
        let id = |number: u64| format!("e{number}");
        let written = |number: u64| {
            let answer = acknowledged(number, number);
            write("a", number as i64 - 1, &[&id(number)], vec![attempt(10 * number + 1, 10 * number + 5, answer)])
        };
        let history = History { writes: (0..writes).map(written).collect(), ..History::default() };
        let events = (0..writes).map(|number| read("a", number, &id(number))).collect();
        (history, vec![NodeFeed::new(1, events)])
    }

    #[test]
    fn a_healthy_history_is_linearizable() {
        let (history, feeds) = healthy();
        let reads =
            seen(vec![leader_read(12, 14, Some(1)), leader_read(51, 59, Some(1)), leader_read(51, 59, Some(2))]);
        let opinion = check(&history, &reads, &feeds);
        assert_eq!((opinion.violations.len(), opinion.decided, opinion.operations), (0, 2, 7));
        let (history, feeds) = long(500);
        let reads = (0..499).map(|number| leader_read(10 * number + 6, 10 * number + 9, Some(number))).collect();
        let opinion = check(&history, &seen(reads), &feeds);
        assert_eq!((opinion.violations, opinion.undecided), (Vec::new(), Vec::new()));
        assert!(opinion.decided > 500 / STEP - 2 && opinion.operations > 1_500, "{} operations", opinion.operations);
    }

    #[test]
    fn a_stale_read_is_seen() {
        let (history, feeds) = healthy();
        assert_eq!(violations(&history, &seen(vec![leader_read(61, 65, Some(1))]), &feeds), 1);
        assert_eq!(violations(&history, &seen(vec![leader_read(11, 15, None)]), &feeds), 1);
        let (history, feeds) = long(500);
        for at in [30, 47, 48, 49, 250, 498] {
            let read = leader_read(10 * at + 6, 10 * at + 9, Some(at - 1));
            assert!(violations(&history, &seen(vec![read]), &feeds) > 0, "{at}");
        }
    }

    #[test]
    fn reads_that_go_back_are_seen_though_each_overlaps_with_the_write() {
        let (history, feeds) = healthy();
        let reads = vec![leader_read(51, 53, Some(2)), leader_read(54, 59, Some(1))];
        assert_eq!(violations(&history, &seen(reads), &feeds), 1);
    }

    #[test]
    fn a_lost_update_is_seen() {
        // Both were told that they wrote number 3, and one of them is there.
        let (mut history, mut feeds) = healthy();
        history.writes.push(write("a", 2, &["a3"], vec![attempt(90, 95, acknowledged(3, 4))]));
        history.writes.push(write("a", 2, &["x3"], vec![attempt(91, 96, acknowledged(3, 4))]));
        for feed in &mut feeds {
            feed.events.push(read("a", 3, "a3"));
        }
        assert_eq!(violations(&history, &Observations::default(), &feeds), 1);
        // The same where nothing came in its place: what was acknowledged is missing in the middle.
        let (history, mut feeds) = long(100);
        feeds[0].events.remove(60);
        assert!(violations(&history, &Observations::default(), &feeds) > 0);
    }

    #[test]
    fn a_refused_write_that_is_stored_is_seen() {
        let (history, mut feeds) = healthy();
        for feed in &mut feeds {
            feed.events.push(read("a", 3, "never"));
        }
        assert_eq!(violations(&history, &Observations::default(), &feeds), 1);
    }

    #[test]
    fn a_refusal_of_the_version_in_force_is_seen() {
        let (mut history, feeds) = healthy();
        history.writes.push(write("a", 2, &["good"], vec![attempt(90, 91, refused())]));
        assert_eq!(violations(&history, &Observations::default(), &feeds), 1);
        history.writes.pop();
        history.writes.push(write("a", 1, &["stale"], vec![attempt(55, 57, refused())]));
        assert_eq!(violations(&history, &Observations::default(), &feeds), 0, "number 2 may have been written by then");
    }

    #[test]
    fn an_unknown_outcome_may_be_either() {
        let (mut history, mut feeds) = healthy();
        history.writes.push(write("a", 2, &["a3"], vec![attempt(90, 95, unknown())]));
        assert_eq!(violations(&history, &Observations::default(), &feeds), 0, "it was not written");
        for feed in &mut feeds {
            feed.events.push(read("a", 3, "a3"));
        }
        let late = |number| seen(vec![leader_read(200, 201, Some(number))]);
        assert_eq!(violations(&history, &late(2), &feeds), 0, "it was written later");
        assert_eq!(violations(&history, &late(3), &feeds), 0, "it was written before");
    }

    #[test]
    fn a_window_that_is_not_decided_is_counted() {
        // Twenty writes at once that nobody saw succeed, and none of which can be the one that the
        // log ends with.
        let (mut history, mut feeds) = healthy();
        for number in 0..20_u64 {
            let id = format!("u{number}");
            history.writes.push(write("a", -2, &[&id], vec![attempt(100, 110, unknown())]));
            feeds[0].events.push(read("a", 3 + number, &id));
        }
        feeds[0].events.push(read("a", 23, "of nobody"));
        let opinion = check(&history, &Observations::default(), &feeds);
        assert_eq!((opinion.undecided.len(), opinion.violations.len()), (1, 0));
    }
}
