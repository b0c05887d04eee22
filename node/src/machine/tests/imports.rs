//! Imports, on a state in memory and in the state database.

use bytes::Bytes;
use headwater_proto::stored::{Command, Import, ImportProgress, ImportedEnd, ImportedEvent, Scavenge, command};
use prost::Message;

use super::rules::{append, delete, event};
use crate::event::{ImportConflict, ImportRefusal, MAX_NUMBER, Ticks, WriteOutcome};
use crate::machine::import::MAX_GAPS;
use crate::machine::memory::Memory;
use crate::machine::state::{Batch, View};
use crate::store::StateWriter;

const NOW: Ticks = Ticks(1_000);

/// Where commands are applied, one after the other.
trait Bench {
    fn apply(&mut self, command: &Command) -> WriteOutcome;
    /// Last number, first number, ranges of missing numbers, and whether it is deleted softly or
    /// for good.
    fn stream(&mut self, name: &str) -> (Option<u64>, u64, usize, bool, bool);
}

fn facts<S: View<Error: std::fmt::Debug>>(state: &mut S, name: &str) -> (Option<u64>, u64, usize, bool, bool) {
    let stream = state.stream(name).unwrap();
    let head = state.head(stream);
    let deleted = (head.is_soft_deleted(), head.tombstone.is_some());
    (head.last_number, head.removed.before, state.gaps(stream), deleted.0, deleted.1)
}

fn decide<S: Batch<Error: std::fmt::Debug>>(state: &mut S, command: &Command) -> WriteOutcome {
    crate::machine::apply(state, NOW, &command.encode_to_vec().into()).unwrap()
}

impl Bench for Memory {
    fn apply(&mut self, command: &Command) -> WriteOutcome {
        decide(self, command)
    }

    fn stream(&mut self, name: &str) -> (Option<u64>, u64, usize, bool, bool) {
        facts(self, name)
    }
}

/// Every command in a chunk of its own; the database is opened anew after each.
struct Database {
    directory: tempfile::TempDir,
    entries: u64,
}

impl Database {
    fn open(&self) -> StateWriter {
        StateWriter::open(self.directory.path(), 1 << 20).unwrap()
    }
}

impl Bench for Database {
    fn apply(&mut self, command: &Command) -> WriteOutcome {
        let mut writer = self.open();
        let mut chunk = writer.begin();
        let outcome = decide(&mut chunk, command);
        self.entries += 1;
        chunk.commit(self.entries, Vec::new(), None);
        outcome
    }

    fn stream(&mut self, name: &str) -> (Option<u64>, u64, usize, bool, bool) {
        let mut writer = self.open();
        facts(&mut writer.begin(), name)
    }
}

fn on_both(test: impl Fn(&mut dyn Bench)) {
    test(&mut Memory::default());
    test(&mut Database { directory: tempfile::tempdir().unwrap(), entries: 0 });
}

fn imported(stream: &str, number: u64, id: u128) -> ImportedEvent {
    let data = if stream.starts_with("$$") { r#"{"$maxCount":3}"# } else { "{}" };
    ImportedEvent { stream: stream.into(), number, time_ticks: 7, event: Some(event(id, true, data)) }
}

fn import(events: Vec<ImportedEvent>) -> Command {
    Command::of_maintenance(command::Kind::Import(Import { events, ..Import::default() }))
}

fn import_ends(events: Vec<ImportedEvent>, ends: &[(&str, u64)]) -> Command {
    let end = |(stream, next_number): &(&str, u64)| ImportedEnd { stream: (*stream).into(), next_number: *next_number };
    let ends = ends.iter().map(end).collect();
    Command::of_maintenance(command::Kind::Import(Import { events, ends, progress: None }))
}

fn note(document: &'static str) -> Command {
    let progress = Some(ImportProgress { stream: "$import-x".into(), document: document.into() });
    Command::of_maintenance(command::Kind::Import(Import { progress, ..Import::default() }))
}

/// Removes what can be removed, and forgets the ids of what was removed before this time.
fn scavenge(streams: &[&str], forget_removed_before: u64) -> Command {
    let streams = streams.iter().map(|name| (*name).to_owned()).collect();
    Command::of_maintenance(command::Kind::Scavenge(Scavenge { streams, max_events: 100, forget_removed_before }))
}

fn metadata(stream: &str, id: u128, document: &str) -> Command {
    append(&format!("$${stream}"), -2, vec![event(id, true, document)])
}

fn stored(stored: u64, present: u64, position: u64) -> WriteOutcome {
    WriteOutcome::Imported { stored, present, position }
}

fn refused(stream: &str, number: u64, current: i64, conflict: ImportConflict) -> WriteOutcome {
    WriteOutcome::NotImported(ImportRefusal { stream: stream.into(), number, current, conflict })
}

#[test]
fn events_keep_their_numbers_and_are_stored_once() {
    on_both(|bench| {
        let first = import(vec![imported("a", 0, 1), imported("b", 5, 2), imported("a", 1, 3), imported("b", 9, 4)]);
        assert_eq!(bench.apply(&first), stored(4, 0, 3));
        assert_eq!(bench.stream("a"), (Some(1), 0, 0, false, false));
        assert_eq!(bench.stream("b"), (Some(9), 5, 1, false, false));
        assert_eq!(bench.apply(&first), stored(0, 4, 3));
        let more = import(vec![imported("b", 9, 4), imported("b", 10, 5), imported("a", 2, 6)]);
        assert_eq!(bench.apply(&more), stored(2, 1, 5));
        // Ordinary writes go on behind them, and know their ids.
        let outcome = bench.apply(&append("b", 10, vec![event(7, true, "{}")]));
        assert_eq!(outcome, WriteOutcome::Appended { first_number: 11, position: 6, repeated: false });
        let again = bench.apply(&append("b", -2, vec![event(4, true, "{}")]));
        assert_eq!(again, WriteOutcome::Appended { first_number: 9, position: 3, repeated: true });
    });
}

#[test]
fn an_event_that_does_not_fit_refuses_the_whole_command() {
    on_both(|bench| {
        bench.apply(&import(vec![imported("a", 3, 1), imported("a", 6, 2)]));
        bench.apply(&append("mine", -2, vec![event(9, true, "{}")]));
        for (event, current, conflict) in [
            (imported("a", 6, 8), 6, ImportConflict::OtherEvent),
            (imported("a", 5, 8), 6, ImportConflict::Missing),
            (imported("mine", 0, 8), 0, ImportConflict::OtherEvent),
        ] {
            let (stream, number) = (event.stream.clone(), event.number);
            let outcome = bench.apply(&import(vec![imported("new", 0, 5), event]));
            assert_eq!(outcome, refused(&stream, number, current, conflict));
        }
        let backwards = import(vec![imported("new", 4, 5), imported("new", 4, 6)]);
        assert_eq!(bench.apply(&backwards), refused("new", 4, -1, ImportConflict::OutOfOrder));
        assert_eq!(bench.stream("new"), (None, 0, 0, false, false));
        // Nobody has seen what lies before the first event.
        assert_eq!(bench.apply(&import(vec![imported("a", 1, 8)])), refused("a", 1, 6, ImportConflict::Missing));
    });
}

#[test]
fn a_part_that_comes_after_a_later_one_is_refused_and_a_later_one_repeated_is_not() {
    on_both(|bench| {
        let part = |numbers: std::ops::Range<u64>| {
            import(numbers.map(|number| imported("a", number, u128::from(number) + 1)).collect())
        };
        assert_eq!(bench.apply(&part(4..8)), stored(4, 0, 3));
        assert_eq!(bench.apply(&part(0..4)), refused("a", 0, 7, ImportConflict::Missing));
        assert_eq!(bench.apply(&part(4..8)), stored(0, 4, 3));
        assert_eq!(bench.apply(&part(6..10)), stored(2, 2, 5));
    });
}

#[test]
fn a_removed_event_is_known_by_its_id_until_that_is_forgotten() {
    on_both(|bench| {
        // The second one has the id of the first.
        let ids = [1, 1, 2, 3];
        let all: Vec<_> = (0..).zip(ids).map(|(number, id)| imported("a", number, id)).collect();
        assert_eq!(bench.apply(&import(all.clone())), stored(4, 0, 3));
        bench.apply(&metadata("a", 50, r#"{"$tb":3}"#));
        let removed = bench.apply(&scavenge(&["a"], 0));
        assert!(matches!(removed, WriteOutcome::Scavenged { events: 3, .. }), "{removed}");
        assert_eq!(bench.apply(&import(all.clone())), stored(0, 4, 4));
        let foreign = import(vec![imported("a", 2, 9)]);
        assert_eq!(bench.apply(&foreign), refused("a", 2, 3, ImportConflict::OtherEvent));
        let early = import(vec![imported("a", 0, 3)]);
        assert_eq!(bench.apply(&early), refused("a", 0, 3, ImportConflict::OtherEvent));
        // From now on nobody can tell.
        bench.apply(&scavenge(&["a"], NOW.0 + 1));
        assert_eq!(bench.apply(&foreign), stored(0, 1, 4));
        assert_eq!(bench.apply(&import(all)), stored(0, 4, 4));
    });
}

#[test]
fn events_of_a_deleted_stream_are_compared_like_others() {
    on_both(|bench| {
        bench.apply(&append("a", -2, vec![event(1, true, "{}"), event(2, true, "{}")]));
        bench.apply(&delete("a", -2, true, 10));
        let (own, foreign) = (import(vec![imported("a", 1, 2)]), import(vec![imported("a", 1, 9)]));
        for _ in 0..2 {
            assert_eq!(bench.apply(&own), stored(0, 1, 2));
            assert_eq!(bench.apply(&foreign), refused("a", 1, 1, ImportConflict::OtherEvent));
            bench.apply(&scavenge(&["a"], 0));
        }
    });
}

#[test]
fn a_stream_without_its_last_events_goes_on_behind_them() {
    on_both(|bench| {
        let command = import_ends(vec![imported("a", 0, 1), imported("a", 1, 2)], &[("a", 7), ("b", 10), ("a", 5)]);
        for outcome in [stored(2, 0, 1), stored(0, 2, 1)] {
            assert_eq!(bench.apply(&command), outcome);
            assert_eq!(bench.stream("a"), (Some(6), 0, 1, false, false));
            assert_eq!(bench.stream("b"), (Some(9), 10, 0, false, false));
        }
        let appended = |first_number, position| WriteOutcome::Appended { first_number, position, repeated: false };
        assert_eq!(bench.apply(&append("a", 6, vec![event(3, true, "{}")])), appended(7, 2));
        assert_eq!(bench.apply(&append("b", 9, vec![event(4, true, "{}")])), appended(10, 3));
        assert_eq!(bench.stream("a"), (Some(7), 0, 1, false, false));
        // A stream that is further by itself stays as it is, and nothing of before comes back.
        assert_eq!(bench.apply(&import_ends(vec![], &[("a", 8), ("b", 3)])), stored(0, 0, 3));
        assert_eq!(bench.stream("b"), (Some(10), 10, 0, false, false));
        assert_eq!(bench.apply(&import(vec![imported("b", 3, 9)])), refused("b", 3, 10, ImportConflict::Missing));
        // What was there goes as usual.
        bench.apply(&metadata("a", 50, r#"{"$tb":7}"#));
        let removed = bench.apply(&scavenge(&["a"], NOW.0 + 1));
        assert!(matches!(removed, WriteOutcome::Scavenged { events: 2, .. }), "{removed}");
        assert_eq!(bench.apply(&append("a", 7, vec![event(5, true, "{}")])), appended(8, 5));
        bench.apply(&delete("b", -2, true, 10));
        assert_eq!(bench.apply(&import_ends(vec![], &[("b", 99)])), stored(0, 0, 6));
        assert_eq!(bench.stream("b"), (Some(10), 10, 0, false, true));
    });
}

#[test]
fn notes_that_were_deleted_and_removed_are_written_again() {
    on_both(|bench| {
        bench.apply(&note("{\"next\":1}"));
        bench.apply(&note("{\"next\":2}"));
        bench.apply(&delete("$import-x", -2, false, 10));
        assert_eq!(bench.stream("$import-x"), (Some(1), 0, 0, true, false));
        // The newest of all events is never removed.
        bench.apply(&append("other", -2, vec![event(1, true, "{}")]));
        let removed = bench.apply(&scavenge(&["$import-x"], 0));
        assert!(matches!(removed, WriteOutcome::Scavenged { events: 2, .. }), "{removed}");
        assert_eq!(bench.apply(&note("{\"next\":2}")), stored(0, 0, 5));
        assert_eq!(bench.stream("$import-x"), (Some(2), 2, 0, false, false));
        assert_eq!(bench.apply(&note("{\"next\":2}")), stored(0, 0, 5));
        // Truncated without being deleted.
        bench.apply(&metadata("$import-x", 2, r#"{"$tb":3}"#));
        bench.apply(&append("other", -2, vec![event(3, true, "{}")]));
        bench.apply(&scavenge(&["$import-x"], 0));
        assert_eq!(bench.apply(&note("{\"next\":2}")), stored(0, 0, 8));
        assert_eq!(bench.stream("$import-x"), (Some(3), 3, 0, false, false));
    });
}

#[test]
fn a_stream_misses_numbers_in_a_bounded_number_of_places() {
    on_both(|bench| {
        let most = MAX_GAPS as u64;
        let with_gaps =
            |first: u64, end: u64| import((first..end).map(|n| imported("a", 2 * n, u128::from(n) + 1)).collect());
        assert_eq!(bench.apply(&with_gaps(0, most + 2)), refused("a", 2 * (most + 1), -1, ImportConflict::TooManyGaps));
        assert_eq!(bench.apply(&with_gaps(0, most)), stored(most, 0, most - 1));
        assert_eq!(bench.apply(&with_gaps(most, most + 1)), stored(1, 0, most));
        let last = (2 * most) as i64;
        assert_eq!(
            bench.apply(&with_gaps(most + 1, most + 2)),
            refused("a", 2 * most + 2, last, ImportConflict::TooManyGaps)
        );
        assert_eq!(bench.apply(&import(vec![imported("a", 2 * most + 1, 1 << 40)])), stored(1, 0, most + 1));
    });
}

#[test]
fn metadata_and_deletions_take_effect_and_nothing_is_added() {
    on_both(|bench| {
        let mut soft = imported("$$a", 1, 3);
        soft.event.as_mut().unwrap().data = Bytes::from_static(br#"{"$tb":9223372036854775807}"#);
        let tombstone = ImportedEvent { number: MAX_NUMBER, ..imported("b", 0, 4) };
        let command =
            import(vec![imported("a", 0, 1), imported("$$a", 0, 2), soft, imported("b", 0, 5), tombstone.clone()]);
        assert_eq!(bench.apply(&command), stored(5, 0, 4));
        assert_eq!(bench.stream("a"), (Some(0), 0, 0, true, false));
        assert_eq!(bench.stream("b"), (Some(0), 0, 0, false, true));
        assert_eq!(bench.apply(&command), stored(0, 5, 4));
        let another = ImportedEvent { event: Some(event(6, false, "")), ..tombstone };
        assert_eq!(bench.apply(&import(vec![another])), refused("b", MAX_NUMBER, 0, ImportConflict::Deleted));
        assert_eq!(bench.apply(&import(vec![imported("b", 1, 6)])), refused("b", 1, 0, ImportConflict::Deleted));
        // The stream began again there, and so it does here, without an event of the machine's own.
        let mut again = imported("$$a", 2, 7);
        again.event.as_mut().unwrap().data = Bytes::from_static(br#"{"$tb":1}"#);
        assert_eq!(bench.apply(&import(vec![imported("a", 1, 8), again])), stored(2, 0, 6));
        assert_eq!(bench.stream("a"), (Some(1), 0, 0, false, false));
        assert_eq!(bench.apply(&delete("a", -2, true, 10)), WriteOutcome::Deleted { position: 7 });
    });
}

#[test]
fn progress_is_noted_with_the_events_and_once() {
    on_both(|bench| {
        let with_note = |stream: &str, document: &'static str, events| {
            let progress =
                Some(ImportProgress { stream: stream.into(), document: Bytes::from_static(document.as_bytes()) });
            Command::of_maintenance(command::Kind::Import(Import { events, progress, ends: Vec::new() }))
        };
        let first = with_note("$import-x", "{\"next\":1}", vec![imported("a", 0, 1)]);
        assert_eq!(bench.apply(&first), stored(1, 0, 1));
        assert_eq!(bench.apply(&first), stored(0, 1, 1));
        assert_eq!(bench.stream("$import-x"), (Some(0), 0, 0, false, false));
        assert_eq!(bench.apply(&with_note("$import-x", "{\"next\":2}", vec![])), stored(0, 0, 2));
        let refused = bench.apply(&with_note("orders", "{}", vec![]));
        assert!(matches!(refused, WriteOutcome::Rejected { .. }));
        let refused = bench.apply(&with_note("$import-x", "{\"next\":3}", vec![imported("a", 0, 9)]));
        assert!(matches!(refused, WriteOutcome::NotImported(_)));
        assert_eq!(bench.stream("$import-x"), (Some(1), 0, 0, false, false));
    });
}

#[test]
fn an_event_is_as_old_as_it_was_and_never_younger_than_its_import() {
    let mut memory = Memory::default();
    let ahead = ImportedEvent { time_ticks: NOW.0 + 5, ..imported("a", 1, 2) };
    memory.apply(&import(vec![imported("a", 0, 1), ahead]));
    let times: Vec<Ticks> = memory.log().iter().map(|event| event.time).collect();
    assert_eq!(times, [Ticks(7), NOW]);
}

#[test]
fn what_no_store_has_is_refused() {
    let mut memory = Memory::default();
    for event in [
        imported("", 0, 1),
        imported("$all", 0, 1),
        imported("$$$$a", 0, 1),
        imported("a", MAX_NUMBER + 1, 1),
        imported("$$a", MAX_NUMBER, 1),
        imported("a", 0, 0),
        ImportedEvent { event: None, ..imported("a", 0, 1) },
    ] {
        let outcome = memory.apply(&import(vec![event.clone()]));
        assert!(matches!(outcome, WriteOutcome::Rejected { .. }), "{event:?}: {outcome:?}");
    }
    for end in [("", 1), ("$all", 1), ("$$a", 1), ("a", 0), ("a", MAX_NUMBER + 1)] {
        let outcome = memory.apply(&import_ends(vec![imported("b", 0, 1)], &[end]));
        assert!(matches!(outcome, WriteOutcome::Rejected { .. }), "{end:?}: {outcome:?}");
    }
    assert!(memory.log().is_empty());
}
