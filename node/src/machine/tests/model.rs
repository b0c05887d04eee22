//! Machine and state against a simple model, in memory and in the state database, under random
//! commands, chunk boundaries, crashes and snapshots.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_proto::stored::{Command, command::Kind};
use proptest::prelude::*;
use prost::Message;

use super::node::{Node, time_of};
use super::rules::{append, copy_of, delete, deleted, erasing_delete, event, repeated, stored};
use crate::event::{MAX_NUMBER, StreamMetadata, Ticks, WriteOutcome};
use crate::machine::memory::Memory;
use crate::store::Store;

const TB_MAX: &str = r#"{"$tb":9223372036854775807}"#;

/// One event of the model: stream, number, id, data. Its position is its index.
type Event = (String, u64, Option<u128>, String);

#[derive(Clone)]
struct Recreated {
    first: usize,
    length: usize,
    /// Empty when it has no copies.
    write: Bytes,
    undone: bool,
}

/// The rules written a second time, as searches through a list.
#[derive(Default, Clone)]
struct Model {
    events: Vec<Event>,
    /// Names of hard-deleted streams.
    dead: Vec<String>,
    /// Soft deletes by id, with their position.
    soft: BTreeMap<(String, u128), u64>,
    /// The last write with "no stream" that brought a deleted stream back.
    recreations: BTreeMap<String, Recreated>,
}

impl Model {
    fn of(&self, stream: &str) -> Vec<(u64, &Event)> {
        let all = self.events.iter().enumerate().map(|(position, event)| (position as u64, event));
        all.filter(|(_, event)| event.0 == stream && event.1 != MAX_NUMBER).collect()
    }

    fn document(&self, stream: &str) -> Option<String> {
        if self.dead.iter().any(|dead| dead == stream) {
            return None;
        }
        self.of(&format!("$${stream}")).last().map(|(_, event)| event.3.clone())
    }

    fn metadata(&self, stream: &str) -> StreamMetadata {
        if stream.starts_with("$$") {
            return StreamMetadata::of_metastream();
        }
        self.document(stream).and_then(|text| StreamMetadata::parse(text.as_bytes())).unwrap_or_default()
    }

    fn push(&mut self, stream: &str, id: Option<u128>, data: &str) -> u64 {
        let number = self.of(stream).len() as u64;
        self.events.push((stream.into(), number, id, data.into()));
        self.events.len() as u64 - 1
    }

    fn is_dead(&self, stream: &str) -> bool {
        let described = stream.strip_prefix("$$").unwrap_or(stream);
        self.dead.iter().any(|dead| dead == described)
    }

    /// `Err`: refused; `Ok(None)`: to be stored; `Ok(Some)`: stored before, with first number and
    /// position of the last event.
    fn decide(
        &self,
        stream: &str,
        expected: i64,
        ids: &[u128],
        write: &Bytes,
    ) -> Result<Option<(u64, u64)>, WriteOutcome> {
        if self.is_dead(stream) {
            return Err(WriteOutcome::StreamDeleted);
        }
        let events = self.of(stream);
        let current = events.len() as i64 - 1;
        let wrong = Err(WriteOutcome::WrongExpectedVersion { current });
        let soft = self.metadata(stream).is_soft_deleted();
        let id_at = |number: usize| events.get(number).and_then(|(_, event)| event.2);
        let run_from = |first: usize| ids.iter().enumerate().all(|(at, id)| id_at(first + at) == Some(*id));
        if expected == -4 && soft {
            return Err(WriteOutcome::StreamDeleted);
        }
        if expected == -4 && current == -1 && self.of(&format!("$${stream}")).is_empty() {
            return wrong;
        }
        if expected == -2 || expected == -4 {
            let seen = |id: &u128| events.iter().position(|(_, event)| event.2 == Some(*id));
            let Some(first) = seen(&ids[0]) else { return Ok(None) };
            let Some(numbers) = ids.iter().map(seen).collect::<Option<Vec<_>>>() else { return wrong };
            let mut last = numbers.into_iter().max().unwrap();
            if run_from(first) {
                last = last.max(first + ids.len() - 1);
            }
            return Ok(Some((first as u64, events[last].0)));
        }
        if expected == current {
            return Ok(None);
        }
        if expected > current {
            return wrong;
        }
        let from = (expected + 1) as usize;
        if run_from(from) {
            return Ok(Some((from as u64, events[from + ids.len() - 1].0)));
        }
        // A repetition of the write that brought a deleted stream back.
        if let Some(Recreated { first, length, write: of, undone }) = self.recreations.get(stream)
            && expected == -1
            && ((!of.is_empty() && of == write) || (!soft && !undone && *length == ids.len() && run_from(*first)))
        {
            return Ok(Some((*first as u64, events[first + length - 1].0)));
        }
        if id_at(from) != Some(ids[0]) && expected == -1 && soft { Ok(None) } else { wrong }
    }

    fn apply(&mut self, command: &Command) -> WriteOutcome {
        let id_of = |bytes: &Bytes| u128::from_be_bytes(bytes[..].try_into().unwrap());
        match command.kind.as_ref().unwrap() {
            Kind::AppendAll(_) | Kind::Scavenge(_) | Kind::Redact(_) | Kind::Import(_) | Kind::RaiseVersion(_) => {
                unreachable!("the model is of writes to single streams")
            }
            Kind::Append(append) => {
                let stream = &append.stream;
                let ids: Vec<_> = append.events.iter().map(|event| id_of(&event.event_id)).collect();
                match self.decide(stream, append.expected_version, &ids, &append.write_id) {
                    Err(refusal) => return refusal,
                    Ok(Some((first_number, position))) => {
                        return WriteOutcome::Appended { first_number, position, repeated: true };
                    }
                    Ok(None) => {}
                }
                let first_number = self.of(stream).len() as u64;
                if self.metadata(stream).is_soft_deleted() {
                    let text = self.rewritten(stream, first_number).unwrap();
                    self.push(&format!("$${stream}"), None, &text);
                    self.recreations.remove(stream);
                    if append.expected_version == -1 {
                        let (first, length, write) = (first_number as usize, ids.len(), append.write_id.clone());
                        self.recreations.insert(stream.clone(), Recreated { first, length, write, undone: false });
                    }
                }
                let described = stream.strip_prefix("$$");
                let was_soft = described.is_some_and(|stream| self.metadata(stream).is_soft_deleted());
                let mut position = 0;
                for (id, event) in ids.iter().zip(&append.events) {
                    position = self.push(stream, Some(*id), std::str::from_utf8(&event.data).unwrap());
                }
                if let Some(described) = described.filter(|_| was_soft) {
                    self.undo(described);
                }
                if let Some(described) = described.filter(|_| was_soft)
                    && let Some(text) = self.rewritten(described, self.of(described).len() as u64)
                {
                    position = self.push(stream, None, &text);
                }
                WriteOutcome::Appended { first_number, position, repeated: false }
            }
            Kind::Delete(delete) => {
                let stream = &delete.stream;
                let id = id_of(&delete.event_id);
                let tombstone = self.events.iter().position(|event| event.0 == *stream && event.1 == MAX_NUMBER);
                if delete.hard
                    && let Some(at) = tombstone
                    && self.events[at].2 == Some(id)
                {
                    return WriteOutcome::Deleted { position: at as u64 };
                }
                if !delete.hard
                    && let Some(position) = self.soft.get(&(stream.clone(), id))
                {
                    return WriteOutcome::Deleted { position: *position };
                }
                if let Err(refusal) = self.decide(stream, delete.expected_version, &[u128::MAX], &Bytes::new()) {
                    return refusal;
                }
                let position = self.events.len() as u64;
                if delete.hard {
                    self.events.push((stream.clone(), MAX_NUMBER, Some(id), String::new()));
                    self.dead.push(stream.clone());
                } else {
                    let text = self.soft_deleted(stream, delete.keeps_access_list);
                    self.push(&format!("$${stream}"), Some(id), &text);
                    self.soft.insert((stream.clone(), id), position);
                }
                WriteOutcome::Deleted { position }
            }
        }
    }

    fn undo(&mut self, stream: &str) {
        if let Some(recreated) = self.recreations.get_mut(stream) {
            recreated.undone = true;
        }
    }

    /// The metadata document of a stream that is soft-deleted now.
    fn soft_deleted(&self, stream: &str, keeps_access_list: bool) -> String {
        let document = self.document(stream).filter(|_| keeps_access_list && self.metadata(stream).acl.is_some());
        let value = document.map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap());
        match value {
            Some(value) => format!(r#"{{"$tb":9223372036854775807,"$acl":{}}}"#, value["$acl"]),
            None => TB_MAX.to_owned(),
        }
    }

    /// The metadata document with another `$tb`, by way of a parsed value.
    fn rewritten(&self, stream: &str, number: u64) -> Option<String> {
        let value: serde_json::Value = serde_json::from_str(&self.document(stream)?).ok()?;
        let mut object = value.as_object()?.clone();
        object.insert("$tb".into(), number.into());
        serde_json::to_string(&object).ok()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Command),
    /// Ends the chunk.
    Commit,
    Flush,
    /// Everything unflushed is lost; the log is applied again from the last applied entry.
    Crash,
    /// A clean stop and start.
    Restart,
    Checkpoint,
    /// Replaces the state by the last checkpoint, then applies the entries after it.
    Install,
}

fn commands() -> impl Strategy<Value = Command> {
    let names = prop::sample::select(vec!["a", "b", "c"]);
    let documents = prop::sample::select(vec![
        "{}",
        r#"{"$tb":1}"#,
        TB_MAX,
        r#"{"x":1,"$maxCount":2}"#,
        r#"{"x":1,"$acl":{"$w":["ann"]}}"#,
        r#"{"$tb":2,"$acl":{"$r":"bob","$d":[]}}"#,
        "no",
        r#"{"$tb":"x"}"#,
        r#"{"$tb":"x","$acl":{"$r":[]}}"#,
    ]);
    let version = prop_oneof![3 => Just(-2i64), 1 => Just(-4), 2 => Just(-1), 4 => 0..6i64];
    let ids = prop::collection::vec(1..12u128, 1..4);
    prop_oneof![
        8 => (names.clone(), version.clone(), ids.clone()).prop_map(|(name, version, ids)| {
            append(name, version, ids.into_iter().map(|id| event(id, false, "data")).collect())
        }),
        // Commands as a node sends them, some of them twice.
        3 => (names.clone(), ids.clone(), 1..4u128).prop_map(|(name, ids, write)| {
            copy_of(write, append(name, -1, ids.into_iter().map(|id| event(id, false, "data")).collect()))
        }),
        2 => (names.clone(), version, 1..12u128, documents).prop_map(|(name, version, id, document)| {
            append(&format!("$${name}"), version, vec![event(id, true, document)])
        }),
        2 => (names.clone(), -2..4i64, 100..106u128).prop_map(|(name, version, id)| delete(name, version, false, id)),
        // Of an older version.
        1 => (names, -2..4i64, 100..106u128).prop_map(|(name, version, id)| erasing_delete(name, version, id)),
        1 => (Just("c"), -2..4i64, 200..202u128).prop_map(|(name, version, id)| delete(name, version, true, id)),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => commands().prop_map(Step::Apply),
        8 => Just(Step::Commit),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Install),
    ];
    prop::collection::vec(step, 1..60)
}

fn assert_equal_to_model(store: &Store, model: &Model) {
    store.view(|view| {
        assert_eq!(view.next_position().unwrap(), model.events.len() as u64);
        let forward = view.log_forward(0, usize::MAX, usize::MAX).unwrap();
        let mut backward = view.log_backward(model.events.len() as u64, usize::MAX, usize::MAX).unwrap();
        backward.reverse();
        assert_eq!(forward, backward);
        assert_eq!(forward.len(), model.events.len());
        for (position, (found, expected)) in forward.iter().zip(&model.events).enumerate() {
            assert_eq!(found.position, position as u64);
            assert_eq!((&found.stream, found.number), (&expected.0, expected.1));
            assert_eq!(found.data, expected.3.as_bytes());
            if let Some(id) = expected.2 {
                assert_eq!(found.event_id.as_u128(), id);
            }
        }
        for name in ["a", "b", "c", "$$a", "$$b", "$$c"] {
            let info = view.stream(name).unwrap();
            let expected = model.of(name);
            assert_eq!(info.last_number, (expected.len() as u64).checked_sub(1), "{name}");
            assert_eq!(info.metadata, model.metadata(name), "{name}");
            assert_eq!(info.tombstoned, model.is_dead(name), "{name}");
            if let Some(id) = info.id {
                let events = view.events(id, 0..=MAX_NUMBER).unwrap();
                let positions: Vec<_> = events.iter().map(|event| event.position).collect();
                assert_eq!(positions, expected.iter().map(|(position, _)| *position).collect::<Vec<_>>());
            } else {
                assert!(expected.is_empty());
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_agrees_with_the_model_in_memory_and_on_the_state_database(steps in steps()) {
        let mut node = Node::new();
        let mut memory = Memory::default();
        let mut model = Model::default();
        let mut pending = Vec::new();
        for step in steps {
            if let Step::Apply(command) = step {
                let outcome = model.apply(&command);
                let bytes = command.encode_to_vec().into();
                let decided_in_memory = super::super::apply(&mut memory, time_of(node.log.len()), &bytes).unwrap();
                prop_assert_eq!(&decided_in_memory, &outcome);
                pending.push(outcome);
                node.log.push(command);
                continue;
            }
            prop_assert_eq!(node.catch_up(), std::mem::take(&mut pending));
            match step {
                Step::Apply(_) | Step::Commit => {}
                Step::Flush => node.store().flush().unwrap(),
                Step::Crash => node.crash(),
                Step::Restart => node.restart(),
                Step::Checkpoint => {
                    let target = node.root.path().join(format!("checkpoint{}", node.log.len()));
                    if !target.exists() {
                        node.writer().checkpoint(&target).unwrap();
                        let mark = Store::checkpoint_mark(&target).unwrap();
                        prop_assert_eq!(mark, node.store().last_applied().unwrap());
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
            // Lost entries are applied again, with the same result.
            node.catch_up();
            assert_equal_to_model(node.store(), &model);
        }
        prop_assert_eq!(node.catch_up(), pending);
        assert_equal_to_model(node.store(), &model);
    }
}

#[test]
fn a_chunk_reads_its_own_writes_and_nothing_of_a_dropped_one() {
    let mut node = Node::new();
    for commit in [false, true] {
        let mut chunk = node.writer().begin();
        let mut apply =
            |command: Command| super::super::apply(&mut chunk, Ticks(1), &command.encode_to_vec().into()).unwrap();
        assert_eq!(apply(append("s", -1, vec![event(1, false, ""), event(1, false, "")])), stored(0, 1));
        assert_eq!(apply(append("s", -2, vec![event(1, false, "")])), repeated(0, 0));
        assert_eq!(apply(delete("s", 1, false, 90)), deleted(2));
        assert_eq!(apply(append("s", -1, vec![event(2, false, "")])), stored(2, 4));
        assert_eq!(apply(append("s", 0, vec![event(1, false, "")])), repeated(1, 1));
        if commit {
            chunk.commit(1, vec![1], None);
        }
    }
    assert_eq!(node.store().applied().current().next_position, 5);
    node.store().view(|view| {
        assert_eq!(view.stream("s").unwrap().metadata.truncate_before, Some(2));
        let metastream = view.stream("$$s").unwrap().id.unwrap();
        let id = view.event(metastream, 1).unwrap().unwrap().event_id;
        assert_eq!(id.get_version_num(), 5, "ids of the server are derived, never random");
        assert_ne!(id, uuid::Uuid::nil());
    });
}
