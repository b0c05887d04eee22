//! The tables of contract/streams 6.7, 7 and 12.

use bytes::Bytes;
use headwater_proto::stored::{Append, AppendAll, Command, Delete, NewEvent, command::Kind};
use prost::Message;

use crate::event::{MAX_NUMBER, RecordedEvent, StreamMetadata, Ticks, WriteOutcome};
use crate::machine::memory::Memory;

pub(super) fn event(id: u128, is_json: bool, data: &str) -> NewEvent {
    NewEvent {
        event_id: Bytes::copy_from_slice(&id.to_be_bytes()),
        event_type: "t".into(),
        is_json,
        data: Bytes::copy_from_slice(data.as_bytes()),
        metadata: Bytes::new(),
    }
}

pub(super) fn append(stream: &str, expected_version: i64, events: Vec<NewEvent>) -> Command {
    let append = Append { stream: stream.into(), expected_version, events, ..Append::default() };
    Command::of_streams(Kind::Append(append))
}

/// The append as one of several copies of a write.
pub(super) fn copy_of(write: u128, mut command: Command) -> Command {
    if let Some(Kind::Append(append)) = &mut command.kind {
        append.write_id = Bytes::copy_from_slice(&write.to_be_bytes());
    }
    command
}

fn append_all(appends: Vec<(&str, i64, Vec<NewEvent>)>) -> Command {
    let appends = appends.into_iter();
    let appends = appends.map(|(stream, expected_version, events)| Append {
        stream: stream.into(),
        expected_version,
        events,
        ..Append::default()
    });
    Command::of_streams(Kind::AppendAll(AppendAll { appends: appends.collect() }))
}

pub(super) fn delete(stream: &str, expected_version: i64, hard: bool, id: u128) -> Command {
    let event_id = Bytes::copy_from_slice(&id.to_be_bytes());
    let keeps_access_list = true;
    Command::of_streams(Kind::Delete(Delete {
        stream: stream.into(),
        expected_version,
        hard,
        event_id,
        keeps_access_list,
    }))
}

/// A soft delete as versions that erased the access list encoded it.
pub(super) fn erasing_delete(stream: &str, expected_version: i64, id: u128) -> Command {
    let mut command = delete(stream, expected_version, false, id);
    if let Some(Kind::Delete(delete)) = &mut command.kind {
        delete.keeps_access_list = false;
    }
    command
}

/// A state in memory to apply commands to.
#[derive(Default)]
struct Bench {
    state: Memory,
    commands: u64,
}

impl Bench {
    fn new() -> Self {
        Self::default()
    }

    fn apply(&mut self, command: Command) -> WriteOutcome {
        self.apply_bytes(command.encode_to_vec().into())
    }

    fn apply_bytes(&mut self, command: Bytes) -> WriteOutcome {
        self.commands += 1;
        super::super::apply(&mut self.state, Ticks(self.commands), &command).unwrap()
    }

    fn append(&mut self, stream: &str, expected: i64, ids: &[u128]) -> WriteOutcome {
        self.apply(append(stream, expected, ids.iter().map(|id| event(*id, false, "x")).collect()))
    }

    fn describe(&mut self, stream: &str, id: u128, document: &str) -> WriteOutcome {
        self.apply(append(&format!("$${stream}"), -2, vec![event(id, true, document)]))
    }

    fn metadata(&self, stream: &str) -> StreamMetadata {
        self.state.metadata(stream)
    }

    fn last_number(&self, stream: &str) -> Option<u64> {
        self.state.last_number(stream)
    }

    fn events(&self, stream: &str) -> Vec<RecordedEvent> {
        self.state.events(stream)
    }

    fn documents(&self, stream: &str) -> Vec<String> {
        let events = self.events(&format!("$${stream}"));
        events.iter().map(|event| String::from_utf8(event.data.to_vec()).unwrap()).collect()
    }

    fn truncate_before(&self, stream: &str) -> Option<u64> {
        self.metadata(stream).truncate_before
    }
}

pub(super) fn stored(first_number: u64, position: u64) -> WriteOutcome {
    WriteOutcome::Appended { first_number, position, repeated: false }
}

pub(super) fn repeated(first_number: u64, position: u64) -> WriteOutcome {
    WriteOutcome::Appended { first_number, position, repeated: true }
}

fn wrong(current: i64) -> WriteOutcome {
    WriteOutcome::WrongExpectedVersion { current }
}

pub(super) fn deleted(position: u64) -> WriteOutcome {
    WriteOutcome::Deleted { position }
}

const TB_MAX: &str = r#"{"$tb":9223372036854775807}"#;

#[test]
fn step_1_hard_deleted_stream_refuses_every_version() {
    let mut bench = Bench::new();
    bench.append("s", -2, &[1]);
    assert_eq!(bench.apply(delete("s", -2, true, 90)), deleted(1));
    for expected in [-4, -2, -1, 0, 5] {
        assert_eq!(bench.append("s", expected, &[1]), WriteOutcome::StreamDeleted, "{expected}");
    }
    assert_eq!(bench.describe("s", 91, "{}"), WriteOutcome::StreamDeleted);
    assert_eq!(bench.apply(delete("s", -2, false, 92)), WriteOutcome::StreamDeleted);
    assert_eq!(bench.apply(delete("s", -2, true, 93)), WriteOutcome::StreamDeleted);
    let all = bench.state.log();
    assert_eq!(all.len(), 2);
    assert_eq!((all[1].event_type.as_str(), all[1].number), ("$streamDeleted", MAX_NUMBER));
}

#[test]
fn steps_2_and_3_exists_needs_a_stream_or_its_metadata() {
    let mut bench = Bench::new();
    assert_eq!(bench.append("none", -4, &[1]), wrong(-1));
    bench.describe("described", 2, "{}");
    assert_eq!(bench.append("described", -4, &[3]), stored(0, 1));
    bench.append("s", -1, &[4]);
    assert_eq!(bench.append("s", -4, &[5]), stored(1, 3));
    assert_eq!(bench.append("s", -4, &[5]), repeated(1, 3));
    bench.apply(delete("s", -2, false, 90));
    assert_eq!(bench.append("s", -4, &[6]), WriteOutcome::StreamDeleted);
    assert_eq!(bench.append("s", -4, &[5]), WriteOutcome::StreamDeleted);
}

#[test]
fn step_4_any_version_goes_by_the_ids_alone() {
    let mut bench = Bench::new();
    assert_eq!(bench.append("s", -2, &[1, 2, 3]), stored(0, 2));
    // 4a: later ids are not examined.
    assert_eq!(bench.append("s", -2, &[4, 1]), stored(3, 4));
    // 4b
    assert_eq!(bench.append("s", -2, &[1, 9]), wrong(4));
    // 4c: any order, gaps allowed; the first commit of an id counts.
    assert_eq!(bench.append("s", -2, &[1, 2, 3]), repeated(0, 2));
    assert_eq!(bench.append("s", -2, &[2, 3]), repeated(1, 2));
    assert_eq!(bench.append("s", -2, &[4, 1]), repeated(3, 4));
    assert_eq!(bench.append("s", -2, &[3, 1]), repeated(2, 2));
    // Another stream is independent.
    assert_eq!(bench.append("t", -2, &[1]), stored(0, 5));
    assert_eq!(bench.append("t", -2, &[1]), repeated(0, 5));
}

#[test]
fn step_4_repeated_ids_in_one_request_are_all_stored_and_found_again() {
    let mut bench = Bench::new();
    assert_eq!(bench.append("s", -2, &[7, 7, 7]), stored(0, 2));
    assert_eq!(bench.append("s", -2, &[7, 7, 7]), repeated(0, 2));
    assert_eq!(bench.append("s", -2, &[7]), repeated(0, 0));
    assert_eq!(bench.append("s", -1, &[7, 7, 7]), repeated(0, 2));
    assert_eq!(bench.append("s", -1, &[7, 7, 7, 7]), wrong(2));
}

#[test]
fn step_5_an_older_version_is_compared_with_the_stored_events() {
    let mut bench = Bench::new();
    bench.append("s", -1, &[1, 2, 3]);
    assert_eq!(bench.append("s", -1, &[1, 2, 3]), repeated(0, 2));
    assert_eq!(bench.append("s", -1, &[1]), repeated(0, 0));
    assert_eq!(bench.append("s", 0, &[2, 3]), repeated(1, 2));
    // 5c
    assert_eq!(bench.append("s", -1, &[2]), wrong(2));
    assert_eq!(bench.append("s", 0, &[9]), wrong(2));
    // 5d: differs later, lies beyond the end.
    assert_eq!(bench.append("s", -1, &[1, 9]), wrong(2));
    assert_eq!(bench.append("s", 1, &[3, 4]), wrong(2));
}

#[test]
fn step_5b_a_repeated_recreation_gets_the_answer_of_the_first() {
    let mut bench = Bench::new();
    bench.append("s", -1, &[1, 2]);
    bench.apply(delete("s", -2, false, 90));
    let WriteOutcome::Appended { first_number: 2, position, repeated: false } = bench.append("s", -1, &[3, 4]) else {
        panic!("not recreated");
    };
    assert_eq!(bench.append("s", -1, &[3, 4]), repeated(2, position));
    bench.append("s", 3, &[5]);
    assert_eq!(bench.append("s", -1, &[3, 4]), repeated(2, position));
    // Not that write: other ids, another order, more or fewer events, or events from elsewhere in
    // the stream.
    for ids in [&[9][..], &[3, 9], &[4, 3], &[3, 4, 5], &[3, 4, 5, 6], &[3], &[4], &[5]] {
        assert_eq!(bench.append("s", -1, ids), wrong(4), "{ids:?}");
    }
    // New metadata does not change what was written.
    bench.describe("s", 20, r#"{"$tb":4}"#);
    assert_eq!(bench.append("s", -1, &[3, 4]), repeated(2, position));
    assert_eq!(bench.append("s", -1, &[5]), wrong(4));
    // After another delete, the stream is recreated again.
    bench.apply(delete("s", -2, false, 91));
    assert!(matches!(bench.append("s", -1, &[3, 4]), WriteOutcome::Appended { first_number: 5, repeated: false, .. }));
}

#[test]
fn step_5b_a_copy_of_a_write_that_a_node_repeats_never_undoes_a_later_delete() {
    let mut bench = Bench::new();
    bench.append("s", -1, &[1, 2]);
    bench.apply(delete("s", -2, false, 90));
    let write = |id| copy_of(id, append("s", -1, vec![event(3, false, "x"), event(4, false, "x")]));
    let WriteOutcome::Appended { first_number: 2, position, repeated: false } = bench.apply(write(77)) else {
        panic!("not recreated");
    };
    assert_eq!(bench.apply(write(77)), repeated(2, position));
    bench.apply(delete("s", -2, false, 91));
    // The second copy comes after another client's delete: stored already, and the stream stays
    // deleted.
    assert_eq!(bench.apply(write(77)), repeated(2, position));
    assert_eq!(bench.truncate_before("s"), Some(MAX_NUMBER));
    assert_eq!(bench.events("s").len(), 4);
    bench.apply(delete("s", -2, false, 93));
    assert_eq!(bench.apply(write(77)), repeated(2, position));
    // The client's own repetition is another write, and recreates the stream (contract/streams 6.7
    // step 5b).
    let again = bench.apply(write(78));
    assert!(matches!(again, WriteOutcome::Appended { first_number: 4, repeated: false, .. }), "{again:?}");
    assert_eq!(bench.truncate_before("s"), Some(4));
    // After the stream came back by metadata, the undone write is no answer for a repetition.
    bench.apply(delete("s", -2, false, 92));
    bench.describe("s", 21, "{}");
    assert_eq!(bench.append("s", -1, &[3, 4]), wrong(5));
    let position = bench.events("s")[5].position;
    assert_eq!(bench.apply(write(78)), repeated(4, position));
}

#[test]
fn step_5c_nothing_is_a_repeated_recreation_where_nothing_was_recreated_by_it() {
    // Truncated by its owner.
    let mut bench = Bench::new();
    bench.append("s", -1, &[1, 2, 3, 4, 5]);
    bench.describe("s", 20, r#"{"$tb":3}"#);
    for ids in [&[4][..], &[4, 5], &[5]] {
        assert_eq!(bench.append("s", -1, ids), wrong(4), "{ids:?}");
    }
    // Recreated by a write that expected something else, or by metadata.
    for comes_back in ["any", "version", "metadata"] {
        let mut bench = Bench::new();
        bench.append("s", -1, &[1, 2]);
        bench.apply(delete("s", -2, false, 90));
        match comes_back {
            "any" => drop(bench.append("s", -2, &[3])),
            "version" => drop(bench.append("s", 1, &[3])),
            _ => {
                bench.describe("s", 20, TB_MAX);
                bench.append("s", -2, &[3]);
            }
        }
        assert_eq!(bench.truncate_before("s"), Some(2), "{comes_back}");
        assert_eq!(bench.append("s", -1, &[3]), wrong(2), "{comes_back}");
        let position = bench.events("s")[2].position;
        assert_eq!(bench.append("s", -2, &[3]), repeated(2, position), "{comes_back}");
    }
    // Recreated by that write, deleted again, and then recreated by metadata.
    let mut bench = Bench::new();
    bench.append("s", -1, &[1, 2]);
    bench.apply(delete("s", -2, false, 90));
    bench.append("s", -1, &[3]);
    bench.apply(delete("s", -2, false, 91));
    bench.describe("s", 20, "{}");
    assert_eq!(bench.truncate_before("s"), Some(3));
    assert_eq!(bench.append("s", -1, &[3]), wrong(2));
}

#[test]
fn step_6_a_version_beyond_the_end_is_wrong() {
    let mut bench = Bench::new();
    assert_eq!(bench.append("s", 0, &[1]), wrong(-1));
    bench.append("s", -1, &[1]);
    assert_eq!(bench.append("s", 1, &[2]), wrong(0));
    assert_eq!(bench.append("s", MAX_NUMBER as i64, &[2]), wrong(0));
}

#[test]
fn step_7_the_current_version_writes_without_looking_at_ids() {
    let mut bench = Bench::new();
    bench.append("s", -1, &[1]);
    assert_eq!(bench.append("s", 0, &[1]), stored(1, 1));
    assert_eq!(bench.append("s", 0, &[1]), repeated(1, 1));
    // Where ids decide, the first commit of an id wins.
    assert_eq!(bench.append("s", -2, &[1]), repeated(0, 0));
    assert_eq!(bench.events("s").len(), 2);
}

#[test]
fn soft_delete_replaces_the_metadata_to_the_byte() {
    let mut bench = Bench::new();
    bench.append("s", -1, &[1, 2]);
    bench.describe("s", 3, r#"{"$maxCount":9,"a":1}"#);
    assert_eq!(bench.apply(delete("s", 0, false, 90)), wrong(1));
    assert_eq!(bench.apply(delete("s", -1, false, 90)), wrong(1));
    assert_eq!(bench.apply(delete("s", 1, false, 90)), deleted(3));
    assert_eq!(bench.documents("s")[1], TB_MAX);
    assert!(bench.metadata("s").is_soft_deleted());
    assert_eq!(bench.metadata("s").max_count, None);
    assert_eq!(bench.last_number("s"), Some(1));
    let event = &bench.events("$$s")[1];
    assert_eq!((event.event_type.as_str(), event.is_json), ("$metadata", true));
    // The same delete forwarded twice is one delete; a new one is another event.
    assert_eq!(bench.apply(delete("s", 1, false, 90)), deleted(3));
    assert_eq!(bench.apply(delete("s", -1, false, 91)), deleted(4));
    assert_eq!(bench.apply(delete("new", -2, false, 92)), deleted(5));
    assert_eq!(bench.documents("new"), [TB_MAX]);
    assert_eq!(bench.last_number("new"), None);
}

#[test]
fn soft_delete_keeps_the_access_list_in_force_and_so_do_the_ways_back() {
    let mut bench = Bench::new();
    bench.append("s", -1, &[1, 2]);
    bench.describe("s", 3, r#"{"a":1,"$acl":{"$r": "ann"},"$maxCount":9}"#);
    let list = bench.metadata("s").acl;
    assert!(list.is_some());
    let kept = r#"{"$tb":9223372036854775807,"$acl":{"$r": "ann"}}"#;
    for id in [90, 91] {
        assert!(matches!(bench.apply(delete("s", -2, false, id)), WriteOutcome::Deleted { .. }));
        assert_eq!(bench.documents("s").last().map(String::as_str), Some(kept));
        assert_eq!((bench.metadata("s").acl, bench.metadata("s").max_count), (list.clone(), None));
        assert!(bench.metadata("s").is_soft_deleted());
    }
    bench.append("s", -2, &[4]);
    assert_eq!(bench.documents("s").last().map(String::as_str), Some(r#"{"$tb":2,"$acl":{"$r": "ann"}}"#));
    assert_eq!(bench.metadata("s").acl, list);
    // A list that is not in force, because its document is not JSON, does not come into force.
    bench.apply(append("$$s", -2, vec![event(5, false, r#"{"$acl":{"$r":"eve"}}"#)]));
    bench.apply(delete("s", -2, false, 92));
    assert_eq!(bench.documents("s").last().map(String::as_str), Some(TB_MAX));
}

/// A soft delete of `s` with the event id 90, written down as it lies in the logs of versions that
/// knew no `keeps_access_list`.
const DELETE_OF_AN_OLDER_VERSION: &[u8] =
    b"\x12\x17\x0a\x01s\x10\x03\x22\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x5a\x20\x01";

#[test]
fn a_delete_of_an_older_version_is_applied_as_it_was_decided_then() {
    assert_eq!(erasing_delete("s", -2, 90).encode_to_vec(), DELETE_OF_AN_OLDER_VERSION);
    let mut bench = Bench::new();
    bench.append("s", -1, &[1, 2]);
    bench.describe("s", 3, r#"{"$acl":{"$r":"ann"}}"#);
    assert_eq!(bench.apply_bytes(Bytes::from_static(DELETE_OF_AN_OLDER_VERSION)), deleted(3));
    assert_eq!(bench.documents("s").last().map(String::as_str), Some(TB_MAX));
    assert_eq!(bench.metadata("s").acl, None);
}

#[test]
fn hard_delete_is_exact_by_its_id() {
    let mut bench = Bench::new();
    assert_eq!(bench.apply(delete("new", -1, true, 90)), deleted(0));
    assert_eq!(bench.apply(delete("new", -1, true, 90)), deleted(0));
    assert_eq!(bench.apply(delete("new", -1, true, 91)), WriteOutcome::StreamDeleted);
    bench.append("s", -1, &[1]);
    bench.apply(delete("s", -2, false, 92));
    assert_eq!(bench.apply(delete("s", -2, true, 93)), deleted(3));
    assert_eq!(bench.metadata("s"), Default::default());
    // A late repetition of a delete before the tombstone gets the answer of that delete.
    assert_eq!(bench.apply(delete("s", -2, false, 92)), deleted(2));
}

#[test]
fn recreated_stream_goes_on_behind_its_old_events() {
    for expected in [-2, -1, 1] {
        let mut bench = Bench::new();
        bench.append("s", -1, &[1, 2]);
        bench.apply(delete("s", -2, false, 90));
        let document = r#"{ "a": [1, 2], "$tb": 9223372036854775807, "$maxCount": 5 }"#;
        // A repeated request finds its events and leaves the stream deleted.
        assert_eq!(bench.append("s", -1, &[1, 2]), repeated(0, 1));
        assert!(bench.metadata("s").is_soft_deleted());
        assert_eq!(bench.append("s", expected, &[3, 4]), stored(2, 5), "{expected}");
        assert_eq!(bench.documents("s"), [TB_MAX, r#"{"$tb":2}"#]);
        assert_eq!(bench.truncate_before("s"), Some(2));
        assert_eq!(bench.last_number("s"), Some(3));
        assert_eq!(bench.append("s", -2, &[3, 4]), repeated(2, 5));
        // Other keys are kept after a soft delete by metadata.
        bench.describe("s", 10, document);
        assert!(bench.metadata("s").is_soft_deleted());
        assert_eq!(bench.append("s", -2, &[5]), stored(4, 8));
        assert_eq!(bench.documents("s")[3], r#"{"a":[1, 2],"$tb":4,"$maxCount":5}"#);
        assert_eq!(bench.metadata("s").max_count, Some(5));
    }
}

#[test]
fn recreate_with_no_stream_compares_only_the_first_id() {
    let mut bench = Bench::new();
    bench.append("s", -1, &[1, 2]);
    bench.apply(delete("s", -2, false, 90));
    assert_eq!(bench.append("s", -1, &[1, 9]), wrong(1));
    assert_eq!(bench.append("s", 0, &[9]), wrong(1));
    assert_eq!(bench.append("s", -1, &[9, 2]), stored(2, 5));
}

#[test]
fn posting_metadata_undeletes_with_a_further_event() {
    let mut bench = Bench::new();
    bench.append("s", -1, &[1, 2]);
    bench.apply(delete("s", -2, false, 90));
    assert_eq!(bench.describe("s", 3, r#"{"a":1}"#), stored(1, 4));
    assert_eq!(bench.documents("s"), [TB_MAX, r#"{"a":1}"#, r#"{"a":1,"$tb":2}"#]);
    assert_eq!(bench.truncate_before("s"), Some(2));
    // An invalid document is stored without meaning, and therefore undeletes without a truncation
    // point.
    bench.apply(delete("s", -2, false, 91));
    bench.describe("s", 4, "nonsense");
    assert_eq!(bench.metadata("s"), Default::default());
    assert_eq!(bench.documents("s").len(), 5);
}

#[test]
fn the_last_json_event_of_the_metastream_is_the_metadata() {
    let mut bench = Bench::new();
    let two = vec![event(1, true, r#"{"$maxCount":1}"#), event(2, true, r#"{"$maxAge":2}"#)];
    bench.apply(append("$$s", -1, two));
    let metadata = bench.metadata("s");
    assert_eq!((metadata.max_count, metadata.max_age_s), (None, Some(2)));
    bench.apply(append("$$s", -2, vec![event(3, false, r#"{"$maxCount":1}"#)]));
    assert_eq!(bench.metadata("s"), Default::default());
    // A repeated request changes nothing.
    bench.apply(append("$$s", -2, vec![event(1, true, r#"{"$maxCount":1}"#)]));
    assert_eq!(bench.metadata("s"), Default::default());
    assert_eq!(bench.metadata("$$s").max_count, Some(1));
    assert_eq!(bench.apply(append("$$s", 0, vec![event(9, true, "{}")])), wrong(2));
}

#[test]
fn commands_that_no_node_sends_are_rejected_and_leave_no_trace() {
    let mut bench = Bench::new();
    let mut short = event(1, false, "");
    short.event_id = Bytes::from_static(b"short");
    let commands = [
        append("s", -2, vec![]),
        append("", -2, vec![event(1, false, "")]),
        append("$all", -2, vec![event(1, false, "")]),
        append("$$$$s", -2, vec![event(1, false, "")]),
        append("$$", -2, vec![event(1, false, "")]),
        append("s", -3, vec![event(1, false, "")]),
        append("s", -2, vec![event(0, false, "")]),
        append("s", -2, vec![short]),
        delete("$$s", -2, false, 1),
        delete("s", -4, false, 1),
        Command::default(),
    ];
    for command in commands {
        assert!(matches!(bench.apply(command), WriteOutcome::Rejected { .. }));
    }
    assert!(matches!(bench.apply_bytes(Bytes::from_static(&[255])), WriteOutcome::Rejected { .. }));
    assert!(bench.state.log().is_empty());
}

#[test]
fn appends_to_several_streams_are_stored_all_together_or_not_at_all() {
    let mut bench = Bench::new();
    bench.append("a", -2, &[1]);
    let both = append_all(vec![
        ("a", 0, vec![event(2, false, "x")]),
        ("b", -1, vec![event(3, false, "x"), event(4, false, "x")]),
        ("c", -1, vec![]),
    ]);
    let stored = bench.apply(both.clone());
    assert_eq!(stored, WriteOutcome::Appended { first_number: 0, position: 3, repeated: false });
    // Repeated, even when its expected versions no longer hold.
    bench.append("c", -2, &[5]);
    bench.append("b", -2, &[6]);
    let repeated = bench.apply(both);
    assert!(matches!(repeated, WriteOutcome::Appended { position: 3, repeated: true, .. }), "{repeated}");
    for demand in [("b", 1, vec![event(7, false, "x")]), ("b", 1, vec![]), ("d", 0, vec![])] {
        let refused = bench.apply(append_all(vec![("a", 1, vec![event(8, false, "x")]), demand.clone()]));
        assert!(matches!(refused, WriteOutcome::WrongExpectedVersion { .. }), "{demand:?}: {refused}");
    }
    assert_eq!((bench.events("a").len(), bench.events("b").len()), (2, 3));
    for nonsense in [
        vec![],
        vec![("a", -2, vec![])],
        vec![("a", -2, vec![event(9, false, "x")]), ("a", -2, vec![event(10, false, "x")])],
        vec![("", -2, vec![event(9, false, "x")])],
        vec![("$$$$a", -2, vec![event(9, false, "x")])],
    ] {
        let refused = bench.apply(append_all(nonsense.clone()));
        assert!(matches!(refused, WriteOutcome::Rejected { .. }), "{nonsense:?}: {refused}");
    }
}

#[test]
fn a_deleted_stream_comes_back_with_new_metadata_and_without_its_former_events() {
    let mut bench = Bench::new();
    bench.append("a", -2, &[1, 2]);
    bench.apply(delete("a", -2, false, 3));
    let again = append_all(vec![
        ("$$a", -2, vec![event(4, true, r#"{"$acl":{"$w":"ann"}}"#)]),
        ("a", 1, vec![event(5, false, "x")]),
    ]);
    assert!(matches!(bench.apply(again), WriteOutcome::Appended { .. }));
    let metadata = bench.metadata("a");
    assert_eq!((metadata.truncate_before, metadata.acl.is_some()), (Some(2), true));
    bench.apply(delete("a", -2, true, 6));
    let dead =
        bench.apply(append_all(vec![("$$a", -2, vec![event(7, true, "{}")]), ("b", -2, vec![event(8, false, "x")])]));
    assert_eq!((dead, bench.events("b").len()), (WriteOutcome::StreamDeleted, 0));
}
