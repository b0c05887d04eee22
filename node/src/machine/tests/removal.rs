//! Removing events and blanking them: the rules one by one in memory, and the state database
//! against memory under random commands, chunk boundaries, crashes and snapshots.

use bytes::Bytes;
use headwater_proto::stored::{Command, Redact, Scavenge, command::Kind};
use proptest::prelude::*;
use prost::Message;

use super::super::state::{Batch, View};
use super::node::{Node, time_of};
use super::rules::{append, delete, event};
use crate::event::{MAX_NUMBER, RecordedEvent, StreamMetadata, Ticks, WriteOutcome};
use crate::machine::memory::Memory;
use crate::store::{ReadView, Store};

fn scavenge(streams: &[&str], max_events: u32, forget_removed_before: Ticks) -> Command {
    Command::of_maintenance(Kind::Scavenge(Scavenge {
        streams: streams.iter().map(|name| (*name).to_owned()).collect(),
        max_events,
        forget_removed_before: forget_removed_before.0,
    }))
}

fn redact(stream: &str, number: u64) -> Command {
    Command::of_maintenance(Kind::Redact(Redact { stream: stream.to_owned(), number }))
}

/// A state in memory, one second older with every command.
#[derive(Default)]
struct Bench {
    state: Memory,
    commands: usize,
}

impl Bench {
    fn apply(&mut self, command: &Command) -> WriteOutcome {
        self.commands += 1;
        super::super::apply(&mut self.state, time_of(self.commands), &command.encode_to_vec().into()).unwrap()
    }

    fn append(&mut self, stream: &str, ids: std::ops::Range<u128>) -> WriteOutcome {
        // The zero id is none.
        self.apply(&append(stream, -2, ids.map(|id| event(id + 1, false, "x")).collect()))
    }

    fn describe(&mut self, stream: &str, document: &str) {
        let id = 1_000_000 + self.commands as u128;
        self.apply(&append(&format!("$${stream}"), -2, vec![event(id, true, document)]));
    }

    fn numbers(&self, stream: &str) -> Vec<u64> {
        self.state.events(stream).iter().map(|event| event.number).collect()
    }

    /// Removes all that can be removed; returns how many events that were.
    fn scavenge(&mut self, stream: &str) -> u64 {
        match self.apply(&scavenge(&[stream], 4_096, Ticks(0))) {
            WriteOutcome::Scavenged { events, finished_streams: 1, .. } => events,
            outcome => panic!("{outcome:?}"),
        }
    }
}

#[test]
fn what_a_stream_truncates_is_removed_and_its_last_number_stays() {
    let mut bench = Bench::default();
    bench.append("s", 0..10);
    bench.append("other", 0..1);
    assert_eq!(bench.scavenge("s"), 0, "nothing is out of sight");
    bench.describe("s", r#"{"$maxCount":3}"#);
    assert_eq!(bench.scavenge("s"), 7);
    assert_eq!(bench.numbers("s"), [7, 8, 9]);
    bench.describe("s", r#"{"$tb":9}"#);
    assert_eq!(bench.scavenge("s"), 2);
    bench.describe("s", "{}");
    assert_eq!(bench.scavenge("s"), 0);
    assert_eq!(bench.numbers("s"), [9]);
    assert_eq!(bench.scavenge("$$s"), 2, "older documents of a metastream go");
    assert_eq!(bench.numbers("$$s"), [2]);
}

#[test]
fn old_events_are_removed_by_the_time_of_the_log() {
    let mut bench = Bench::default();
    for id in 0..10 {
        bench.append("s", id..id + 1);
    }
    bench.describe("s", r#"{"$maxAge":5}"#);
    assert_eq!(bench.scavenge("s"), 6);
    assert_eq!(bench.numbers("s"), [6, 7, 8, 9]);
}

#[test]
fn deleted_streams_lose_everything_but_their_tombstone_and_their_last_number() {
    let mut bench = Bench::default();
    bench.append("soft", 0..5);
    bench.append("hard", 10..15);
    bench.apply(&delete("soft", -2, false, 100));
    bench.describe("hard", r#"{"$maxCount":3}"#);
    bench.apply(&delete("hard", -2, true, 101));
    bench.append("other", 0..1);
    assert_eq!((bench.scavenge("soft"), bench.scavenge("hard"), bench.scavenge("$$hard")), (5, 5, 1));
    assert_eq!(bench.scavenge("$$soft"), 0, "the mark of the deletion is in force");
    assert_eq!((bench.state.last_number("soft"), bench.state.last_number("hard")), (Some(4), Some(4)));
    assert!(bench.state.log().iter().any(|event| event.stream == "hard" && event.number == MAX_NUMBER));
    assert!(matches!(bench.append("soft", 20..21), WriteOutcome::Appended { first_number: 5, .. }));
    assert_eq!(bench.append("hard", 20..21), WriteOutcome::StreamDeleted);
    assert_eq!(bench.numbers("soft"), [5]);
}

#[test]
fn a_late_repetition_is_recognised_until_its_ids_are_forgotten() {
    let mut bench = Bench::default();
    bench.append("s", 0..4);
    bench.describe("s", r#"{"$maxCount":1}"#);
    bench.append("other", 0..1);
    assert_eq!(bench.scavenge("s"), 3);
    let repeated = WriteOutcome::Appended { first_number: 0, position: 1, repeated: true };
    assert_eq!(bench.append("s", 0..2), repeated);
    bench.apply(&scavenge(&["s"], 1, time_of(2)));
    assert_eq!(bench.append("s", 0..2), repeated, "they were removed later than that");
    let now = time_of(bench.commands);
    bench.apply(&scavenge(&["s"], 1, now));
    assert!(matches!(bench.append("s", 0..2), WriteOutcome::Appended { first_number: 4, repeated: false, .. }));
    assert!(matches!(bench.append("s", 3..4), WriteOutcome::Appended { first_number: 3, repeated: true, .. }));
}

#[test]
fn a_command_removes_no_more_than_it_may_and_says_how_far_it_came() {
    let mut bench = Bench::default();
    for stream in ["a", "b", "c"] {
        bench.append(stream, 0..5);
        bench.apply(&delete(stream, -2, false, 100));
    }
    let mut some = |streams: &[&str]| match bench.apply(&scavenge(streams, 4, Ticks(0))) {
        WriteOutcome::Scavenged { events, finished_streams, .. } => (events, finished_streams),
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!(some(&["a", "b", "c"]), (4, 0));
    assert_eq!(some(&["a", "b", "c"]), (4, 1));
    assert_eq!(some(&["b", "c"]), (4, 1));
    assert_eq!(some(&["c"]), (3, 1));
    for (streams, most) in [(&[][..], 1), (&["a"][..], 0), (&["a"][..], 4_097), (&["a"; 1_025][..], 1)] {
        assert!(matches!(bench.apply(&scavenge(streams, most, Ticks(0))), WriteOutcome::Rejected { .. }));
    }
}

#[test]
fn the_newest_of_all_events_stays() {
    let mut bench = Bench::default();
    bench.describe("s", r#"{"$maxAge":1}"#);
    bench.append("s", 0..3);
    bench.apply(&redact("s", 9));
    bench.apply(&redact("s", 9));
    assert_eq!(bench.scavenge("s"), 2);
    assert_eq!(bench.numbers("s"), [2]);
    bench.append("other", 0..1);
    assert_eq!(bench.scavenge("s"), 1);
}

#[test]
fn a_redacted_event_keeps_its_place_and_loses_its_content() {
    let mut bench = Bench::default();
    bench.append("s", 0..3);
    bench.apply(&append("s", -2, vec![event(7, true, r#"{"name":"ann"}"#)]));
    assert_eq!(bench.apply(&redact("s", 1)), WriteOutcome::Redacted { position: 1 });
    assert_eq!(bench.apply(&redact("s", 3)), WriteOutcome::Redacted { position: 3 });
    let events = bench.state.events("s");
    let shown: Vec<_> = events.iter().map(|event| (event.event_id.as_u128(), &event.data[..])).collect();
    assert_eq!(shown, [(1, &b"x"[..]), (2, b""), (3, b"x"), (7, b"{}")]);
    assert!(matches!(bench.append("s", 1..2), WriteOutcome::Appended { first_number: 1, repeated: true, .. }));
    bench.describe("s", r#"{"owner":"ann"}"#);
    bench.describe("s", r#"{"owner":"bob"}"#);
    assert!(matches!(bench.apply(&redact("$$s", 1)), WriteOutcome::Rejected { .. }), "it is in force");
    assert!(matches!(bench.apply(&redact("$$s", 0)), WriteOutcome::Redacted { .. }));
    for (stream, number) in [("s", 4), ("s", MAX_NUMBER), ("", 0), ("$all", 0), ("none", 0)] {
        assert!(matches!(bench.apply(&redact(stream, number)), WriteOutcome::Rejected { .. }), "{stream}");
    }
}

/// Each node drops the rows of forgotten ids table by table, in an order of its own.
#[test]
fn the_last_number_stays_while_some_of_the_forgotten_rows_are_still_there() {
    let mut node = Node::new();
    let ids = |range: std::ops::Range<u128>| range.map(|id| event(id, false, "x")).collect();
    apply(&mut node, append("s", -2, ids(1..51)));
    node.store().flush().unwrap();
    apply(&mut node, append("s", -2, ids(51..101)));
    node.store().flush().unwrap();
    apply(&mut node, delete("s", -2, false, 1_000));
    apply(&mut node, append("other", -2, ids(2_000..2_001)));
    apply(&mut node, scavenge(&["s"], 4_096, Ticks(0)));
    let now = time_of(node.log.len());
    apply(&mut node, scavenge(&["s"], 4_096, now));
    node.store().flush().unwrap();
    let id = node.store().view(|view| view.stream("s").unwrap().id.unwrap());
    node.store().rewrite_index(id, 50);
    let left = node.store().view(|view| view.places(id, 0..=MAX_NUMBER).unwrap().len());
    assert_eq!(left, 50, "the rows of one table are gone");
    node.restart();
    assert_eq!(node.store().view(|view| view.stream("s").unwrap().last_number), Some(99));
    let outcome = apply(&mut node, append("s", -2, ids(3_000..3_001)));
    assert!(matches!(outcome, WriteOutcome::Appended { first_number: 100, .. }), "{outcome:?}");
}

/// A node that has been running all the time and one that starts from a copy decide alike.
#[test]
fn an_id_that_was_used_twice_is_forgotten_alike_by_a_node_that_starts_anew() {
    let mut node = Node::new();
    let with_ids = |ids: &[u128]| ids.iter().map(|id| event(*id, false, "x")).collect();
    apply(&mut node, append("s", -2, with_ids(&[9])));
    apply(&mut node, append("s", -2, with_ids(&[8, 9])));
    apply(&mut node, append("$$s", -2, vec![event(1_000, true, r#"{"$tb":1}"#)]));
    let now = time_of(node.log.len() + 1);
    apply(&mut node, scavenge(&["s"], 1, now));
    let now = time_of(node.log.len());
    apply(&mut node, scavenge(&["s"], 1, now));
    node.restart();
    let outcome = apply(&mut node, append("s", -2, with_ids(&[8, 9])));
    assert!(matches!(outcome, WriteOutcome::WrongExpectedVersion { .. }), "{outcome:?}");
}

/// As a restore to an earlier end may leave it.
#[test]
fn a_deleted_stream_without_its_metadata_event_comes_back_with_its_access_list() {
    let mut bench = Bench::default();
    bench.append("s", 0..3);
    let deleted = format!(r#"{{"$tb":{MAX_NUMBER},"$acl":{{"$r":["ann"]}}}}"#);
    let stream = bench.state.stream("s").unwrap();
    bench.state.set_metadata(stream, StreamMetadata::parse(deleted.as_bytes()));
    assert!(matches!(bench.append("s", 7..8), WriteOutcome::Appended { first_number: 3, .. }));
    let metadata = bench.state.metadata("s");
    assert_eq!((metadata.truncate_before, metadata.acl.unwrap().read), (Some(3), Some(vec!["ann".to_owned()])));
    assert_eq!(bench.numbers("$$s"), [0], "the document says what is in force");
}

fn apply(node: &mut Node, command: Command) -> WriteOutcome {
    node.log.push(command);
    node.catch_up().pop().unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Command),
    Commit,
    Flush,
    Crash,
    Restart,
    Checkpoint,
    Install,
}

fn stream() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

fn write() -> impl Strategy<Value = Command> {
    let appended = (stream(), prop::sample::select(vec![-2i64, -2, -2, -1, 0, 2, 5]), 1..24u128, 1..4u128);
    let documents = vec![r#"{"$maxCount":2}"#, r#"{"$tb":3}"#, r#"{"$maxAge":6}"#, "{}", r#"{"$tb":0,"$maxCount":5}"#];
    let described = (stream(), 1_000..1_000_000u128, prop::sample::select(documents));
    let with_metadata = prop::sample::select(vec!["a", "b", "c", "$$a", "$$b", "$$c"]);
    prop_oneof![
        8 => appended.prop_map(|(stream, expected, first, count)| {
            append(stream, expected, (first..first + count).map(|id| event(id, false, &format!("d{id}"))).collect())
        }),
        3 => described.prop_map(|(stream, id, document)| append(&format!("$${stream}"), -2, vec![event(id, true, document)])),
        1 => (stream(), any::<bool>(), 1_000_000..2_000_000u128)
            .prop_map(|(stream, hard, id)| delete(stream, -2, hard && stream == "c", id)),
        4 => (1..6u32, 0..60usize).prop_map(|(most, time)| scavenge(&["a", "b", "c", "$$a", "$$b", "$$c"], most, time_of(time))),
        1 => (with_metadata, 0..6u64).prop_map(|(stream, number)| redact(stream, number)),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => write().prop_map(Step::Apply),
        2 => Just(Step::Commit),
        1 => Just(Step::Flush),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Install),
    ];
    prop::collection::vec(step, 1..120)
}

/// The events that a walk through the log meets, page by page.
fn walk_up(view: &ReadView<'_>, count: u64) -> Vec<RecordedEvent> {
    let end = view.next_position().unwrap();
    let (mut at, mut met) = (0, Vec::new());
    while at < end {
        let (positions, found) = view.span_up(at, count, end).unwrap();
        let events = view.log_forward(positions.start, found as usize, usize::MAX).unwrap();
        assert_eq!(events.len() as u64, found);
        assert!(events.iter().all(|event| positions.contains(&event.position)));
        met.extend(events);
        at = positions.end;
    }
    met
}

fn walk_down(view: &ReadView<'_>, count: u64) -> Vec<RecordedEvent> {
    let (mut before, mut met) = (view.next_position().unwrap(), Vec::new());
    while before > 0 {
        let (positions, found) = view.span_down(before, count).unwrap();
        let mut events = Vec::new();
        view.log_down(positions.clone(), |event| {
            events.push(event.to_recorded());
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(events.len() as u64, found);
        met.extend(events);
        before = positions.start;
    }
    met.reverse();
    met
}

fn assert_equal(store: &Store, memory: &Memory, count: u64) {
    store.view(|view| {
        assert_eq!(walk_up(view, count), memory.log());
        assert_eq!(walk_down(view, count), memory.log());
        for name in ["a", "b", "c", "$$a", "$$b", "$$c"] {
            let info = view.stream(name).unwrap();
            assert_eq!(info.last_number, memory.last_number(name), "{name}");
            let head = memory.known(name).cloned().unwrap_or_default();
            assert_eq!((info.removed_before, info.redactions), (head.removed.before, head.redactions), "{name}");
            if let Some(id) = info.id {
                assert_eq!(view.events(id, 0..=MAX_NUMBER).unwrap(), memory.events(name));
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_state_database_agrees_with_memory_where_events_are_removed(steps in steps(), count in 1..7u64) {
        let mut node = Node::new();
        let mut memory = Memory::default();
        let mut pending = Vec::new();
        for step in steps {
            match step {
                Step::Apply(command) => {
                    let bytes: Bytes = command.encode_to_vec().into();
                    let outcome = super::super::apply(&mut memory, time_of(node.log.len()), &bytes).unwrap();
                    // Memory knows no rows.
                    pending.push(without_bytes(outcome));
                    node.log.push(command);
                    continue;
                }
                step => {
                    let outcomes: Vec<_> = node.catch_up().into_iter().map(without_bytes).collect();
                    prop_assert_eq!(outcomes, std::mem::take(&mut pending));
                    match step {
                        Step::Apply(_) | Step::Commit => {}
                        Step::Flush => {
                            node.store().flush().unwrap();
                            for range in node.store().index_tables().unwrap() {
                                node.store().reclaim(&range).unwrap();
                            }
                            for range in node.store().reclaimable().unwrap() {
                                node.store().reclaim(&range).unwrap();
                            }
                        }
                        Step::Crash => node.crash(),
                        Step::Restart => node.restart(),
                        Step::Checkpoint => {
                            let target = node.root.path().join(format!("checkpoint{}", node.log.len()));
                            if !target.exists() {
                                node.writer().checkpoint(&target).unwrap();
                            }
                            node.checkpoint = Some(target);
                        }
                        Step::Install => {
                            if let Some(checkpoint) = node.checkpoint.clone() {
                                node.writer().install(&checkpoint).unwrap();
                                node.adopt_applied();
                            }
                        }
                    }
                }
            }
            node.catch_up();
            assert_equal(node.store(), &memory, count);
        }
        let outcomes: Vec<_> = node.catch_up().into_iter().map(without_bytes).collect();
        prop_assert_eq!(outcomes, pending);
        assert_equal(node.store(), &memory, count);
    }
}

fn without_bytes(outcome: WriteOutcome) -> WriteOutcome {
    match outcome {
        WriteOutcome::Scavenged { events, finished_streams, .. } => {
            WriteOutcome::Scavenged { events, bytes: 0, finished_streams }
        }
        other => other,
    }
}
