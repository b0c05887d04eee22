//! Appends: the decision procedure of contract/streams 6.7.

use headwater_proto::stored::{Append, NewEvent};
use uuid::Uuid;

use super::state::{Batch, Damaged, View};
use super::{event_id, expected_version, metadata, rejected};
use crate::deliberate::{self, Fault};
use crate::event::{
    EventNumber, ExpectedVersion, Position, Recreation, StreamNameRef, Ticks, WriteOutcome, stream_name,
};

/// The decision of contract/streams 6.7 on an append.
pub(super) enum Decision {
    /// The events have to be stored.
    Ok,
    /// They were stored before.
    Idempotent { first_number: EventNumber, position: Position },
    /// The events are not stored, with this outcome.
    Refused(WriteOutcome),
}

impl Decision {
    fn wrong_version<S: View>(state: &S, stream: S::Stream) -> Self {
        Self::Refused(WriteOutcome::WrongExpectedVersion { current: state.head(stream).current_version() })
    }

    fn deleted() -> Self {
        Self::Refused(WriteOutcome::StreamDeleted)
    }
}

pub(super) fn apply<S: Batch>(state: &mut S, time: Ticks, command: Append) -> Result<WriteOutcome, S::Error> {
    let attempt = match check(&command) {
        Ok(checked) => checked,
        Err(refusal) => return Ok(refusal),
    };
    let stream = state.stream(&command.stream)?;
    let described = StreamNameRef::new(&command.stream).described();
    let described = described.map(|name| state.stream(name.as_str())).transpose()?;
    if let Some(described) = described
        && state.head(described).tombstone.is_some()
    {
        return Ok(WriteOutcome::StreamDeleted);
    }
    match decide(state, stream, &attempt)? {
        Decision::Ok if deliberate::now_and_then(Fault::LoseEvent) => {
            let first_number = state.head(stream).last_number.map_or(0, |last| last + 1);
            Ok(WriteOutcome::Appended { first_number, position: state.next_position(), repeated: false })
        }
        Decision::Refused(WriteOutcome::WrongExpectedVersion { .. }) if deliberate::is(Fault::AcceptStaleVersion) => {
            store(state, time, stream, described, &attempt, command.events)
        }
        Decision::Ok if deliberate::now_and_then(Fault::ApplyTwice) => {
            store(state, time, stream, described, &attempt, command.events.clone())?;
            store(state, time, stream, described, &attempt, command.events)
        }
        Decision::Ok if deliberate::now_and_then(Fault::RefuseAndStore) => {
            store(state, time, stream, described, &attempt, command.events)?;
            Ok(WriteOutcome::WrongExpectedVersion { current: 0 })
        }
        Decision::Ok => store(state, time, stream, described, &attempt, command.events),
        Decision::Idempotent { first_number, position } => {
            Ok(WriteOutcome::Appended { first_number, position, repeated: true })
        }
        Decision::Refused(outcome) => Ok(outcome),
    }
}

/// An append as the decision sees it, without its stream.
pub(super) struct Attempt {
    pub(super) expected: ExpectedVersion,
    /// Ids of its events.
    pub(super) ids: Vec<Uuid>,
    /// Common to all copies of the write.
    pub(super) write_id: Option<Uuid>,
}

impl Attempt {
    /// For a write that expects a version but has no event of its own: like an append with one new
    /// id. The zero id is never stored.
    pub(super) fn of_version(expected: ExpectedVersion) -> Self {
        Self { expected, ids: vec![Uuid::nil()], write_id: None }
    }
}

pub(super) fn check(command: &Append) -> Result<Attempt, WriteOutcome> {
    if command.stream.is_empty() || command.stream == stream_name::ALL {
        return Err(rejected("nobody may append to this stream"));
    }
    let described = StreamNameRef::new(&command.stream).described();
    if described.is_some_and(|described| described.as_str().is_empty() || described.is_metastream()) {
        return Err(rejected("a metastream has no metadata of its own"));
    }
    if command.events.is_empty() {
        return Err(rejected("there is no event"));
    }
    let ids = command.events.iter().map(|event| event_id(&event.event_id)).collect::<Result<_, _>>()?;
    let expected = expected_version(command.expected_version)?;
    Ok(Attempt { expected, ids, write_id: Uuid::from_slice(&command.write_id).ok() })
}

/// Steps 1 to 7 of contract/streams 6.7, in their order. There is at least one id.
pub(super) fn decide<S: View>(state: &mut S, stream: S::Stream, attempt: &Attempt) -> Result<Decision, S::Error> {
    let Attempt { expected, ref ids, write_id } = *attempt;
    let head = state.head(stream);
    let (last, is_soft_deleted) = (head.last_number, head.is_soft_deleted());
    if head.tombstone.is_some() {
        return Ok(Decision::deleted());
    }
    // An exact version is compared with the events from `compare_from` on; steps 6 and 7 compare
    // with none.
    let compare_from = match expected {
        ExpectedVersion::Any => return walk(state, stream, ids),
        ExpectedVersion::Exists if is_soft_deleted => return Ok(Decision::deleted()),
        ExpectedVersion::Exists if last.is_none() && !has_metadata_events(state, stream)? => {
            return Ok(Decision::wrong_version(state, stream));
        }
        ExpectedVersion::Exists => return walk(state, stream, ids),
        ExpectedVersion::NoStream if last.is_none() => return Ok(Decision::Ok),
        ExpectedVersion::NoStream => 0,
        ExpectedVersion::Exactly(number) if last == Some(number) => return Ok(Decision::Ok),
        ExpectedVersion::Exactly(number) if last.is_none_or(|last| number > last) => {
            return Ok(Decision::wrong_version(state, stream));
        }
        ExpectedVersion::Exactly(number) => number + 1,
    };
    for (offset, id) in ids.iter().enumerate() {
        if has_id_at(state, stream, compare_from + offset as u64, *id)? {
            continue;
        }
        if expected == ExpectedVersion::NoStream {
            return match repeated_recreation(state, stream, ids, write_id)? {
                Some(repeated) => Ok(repeated),
                None if is_soft_deleted && offset == 0 => Ok(Decision::Ok),
                None => Ok(Decision::wrong_version(state, stream)),
            };
        }
        return Ok(Decision::wrong_version(state, stream));
    }
    idempotent(state, stream, compare_from, compare_from + ids.len() as u64 - 1)
}

/// A repetition of the write that recreated a soft-deleted stream (step 5b) gets the answer of the
/// first write.
///
/// "No stream" was right when that write came. A node repeats writes through changes of leadership,
/// so without this rule a client could get "wrong version" for a write that it made once and that
/// is stored. The rule holds for that very write only: all of its ids, at the numbers they got
/// then. After another soft delete, a client's repetition recreates the stream again, as step 5b
/// says. A copy made by a node does not: the client asked once, and the later delete prevails
/// (docs/adr/0016-copies-of-a-write.md).
fn repeated_recreation<S: View>(
    state: &mut S,
    stream: S::Stream,
    ids: &[Uuid],
    write_id: Option<Uuid>,
) -> Result<Option<Decision>, S::Error> {
    let Some(before) = state.head(stream).recreation else { return Ok(None) };
    let (first, events) = (before.first_number, before.events);
    let is_copy = write_id.is_some() && write_id == before.write_id;
    if !is_copy && (before.is_undone || ids.len() as u64 != events || !is_at(state, stream, first, ids)?) {
        return Ok(None);
    }
    idempotent(state, stream, first, first + events - 1).map(Some)
}

/// Step 4: the ids alone decide.
fn walk<S: View>(state: &mut S, stream: S::Stream, ids: &[Uuid]) -> Result<Decision, S::Error> {
    let Some(first) = state.number_of_id(stream, ids[0])? else {
        return Ok(Decision::Ok);
    };
    let mut highest = first;
    for id in &ids[1..] {
        match state.number_of_id(stream, *id)? {
            Some(number) => highest = highest.max(number),
            None => return Ok(Decision::wrong_version(state, stream)),
        }
    }
    // If the request repeats an id, a look-up finds only the first event with it. If the request's
    // own events still lie side by side as they were written, they tell better where the request
    // ended.
    let end = first + ids.len() as u64 - 1;
    if end > highest && is_at(state, stream, first, ids)? {
        highest = end;
    }
    idempotent(state, stream, first, highest)
}

fn is_at<S: View>(state: &mut S, stream: S::Stream, first: EventNumber, ids: &[Uuid]) -> Result<bool, S::Error> {
    for (offset, id) in ids.iter().enumerate() {
        if !has_id_at(state, stream, first + offset as u64, *id)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn idempotent<S: View>(
    state: &S,
    stream: S::Stream,
    first_number: EventNumber,
    last_number: EventNumber,
) -> Result<Decision, S::Error> {
    let Some(position) = state.position_of(stream, last_number)? else {
        let stream = state.name(stream);
        return Err(Damaged(format!("event {last_number} of stream '{stream}' has an id but no index row")).into());
    };
    Ok(Decision::Idempotent { first_number, position })
}

/// Whether the raw event with this number has this id.
fn has_id_at<S: View>(state: &mut S, stream: S::Stream, number: EventNumber, id: Uuid) -> Result<bool, S::Error> {
    match state.number_of_id(stream, id)? {
        Some(first) if first == number => Ok(true),
        // The id was used again later, perhaps here. Of a removed event that is not known any more,
        // and nothing is taken for stored that perhaps is not.
        Some(first) if first < number && number < state.head(stream).removed.before => Ok(false),
        Some(first) if first < number => match state.position_of(stream, number)? {
            Some(position) => Ok(state.event_id_at(position)? == id),
            None => Ok(false),
        },
        // Never used, or first used after this number.
        _ => Ok(false),
    }
}

fn has_metadata_events<S: View>(state: &mut S, stream: S::Stream) -> Result<bool, S::Error> {
    let metastream = metadata::metastream_of(state, stream)?;
    Ok(state.head(metastream).last_number.is_some())
}

/// Stores the events and their consequences.
pub(super) fn store<S: Batch>(
    state: &mut S,
    time: Ticks,
    stream: S::Stream,
    described: Option<S::Stream>,
    attempt: &Attempt,
    events: Vec<NewEvent>,
) -> Result<WriteOutcome, S::Error> {
    let Attempt { expected, ref ids, write_id } = *attempt;
    let head = state.head(stream);
    let mut first_number = head.last_number.map_or(0, |last| last + 1);
    if deliberate::now_and_then(Fault::SkipNumber) {
        first_number += 1;
        state.skip_to(stream, first_number);
    }
    let head = state.head(stream);
    // A metastream is never soft-deleted: nothing can write metadata for it.
    if head.is_soft_deleted() {
        // Before the events, so that the position of the last event covers the return of the stream
        // too.
        metadata::recreate(state, time, stream, first_number)?;
        // For every other version, a repetition is recognised by the ids, or by the numbers after
        // that version.
        let expects_none = expected == ExpectedVersion::NoStream;
        let written = Recreation { first_number, events: ids.len() as u64, write_id, is_undone: false };
        let recreation = expects_none.then_some(written);
        state.set_recreation(stream, recreation);
    }
    let mut position = 0;
    for (id, mut event) in ids.iter().zip(events) {
        if deliberate::now_and_then(Fault::ChangeData) || deliberate::now_and_then(Fault::ApplyDifferently) {
            event.data = changed(&event.data);
        }
        position = state.append(stream, time, *id, event)?;
    }
    if let Some(described) = described {
        position = metadata::replaced(state, time, described, stream, position)?;
    }
    if deliberate::is(Fault::WrongPosition) {
        position = position.saturating_sub(1);
    }
    Ok(WriteOutcome::Appended { first_number, position, repeated: false })
}

/// Other data of the same length, for deliberate faults: a letter becomes another one.
fn changed(data: &[u8]) -> bytes::Bytes {
    let mut data = data.to_vec();
    if let Some(letter) = data.iter_mut().rev().find(|byte| byte.is_ascii_lowercase()) {
        *letter = if *letter == b'z' { b'a' } else { *letter + 1 };
    }
    data.into()
}
