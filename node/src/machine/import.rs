//! Events of another store, with the numbers and times that they had there
//! (docs/adr/0023-import.md).
//!
//! An import writes down what has happened elsewhere. So nothing is decided here but whether it
//! fits: no expected version, no event of the machine's own for a stream that begins again.
//! Metadata and tombstones take effect as they did there.

use std::collections::HashMap;

use bytes::Bytes;
use headwater_proto::stored::{Import, ImportProgress, ImportedEnd, ImportedEvent, NewEvent};
use uuid::Uuid;

use super::state::{Batch, View};
use super::{event_id, metadata, rejected};
use crate::event::{
    EventNumber, ImportConflict, ImportRefusal, MAX_NUMBER, StreamMetadata, StreamNameRef, Ticks, WriteOutcome,
    stream_name,
};

/// Ranges of numbers that a stream may lack after its first event: they are in the row of the
/// stream.
pub(crate) const MAX_GAPS: usize = 1_024;

/// Type of the event that says how far an import has come.
const PROGRESS_EVENT_TYPE: &str = "$importProgress";

/// Namespace for the ids of these events. Any fixed number would do.
const PROGRESS_EVENTS: Uuid = Uuid::from_u128(0x2b1d_8c0e_64f3_5e0a_8a3c_90d1_57be_4c26);

pub(super) fn apply<S: Batch>(state: &mut S, time: Ticks, command: Import) -> Result<WriteOutcome, S::Error> {
    if command.progress.as_ref().is_some_and(|progress| !is_progress_stream(&progress.stream)) {
        return Ok(rejected("the progress of an import belongs into a stream $import-..."));
    }
    let mut ahead = HashMap::new();
    let checked = match check(state, &command.events, &mut ahead)? {
        Ok(checked) => checked,
        Err(refused) => return Ok(refused),
    };
    let ends = match check_ends(state, &command.ends, &mut ahead)? {
        Ok(ends) => ends,
        Err(refused) => return Ok(refused),
    };
    let present = checked.iter().filter(|event| event.is_present).count() as u64;
    let stored = checked.len() as u64 - present;
    for (checked, imported) in checked.into_iter().zip(command.events) {
        if !checked.is_present {
            store(state, time, checked, imported)?;
        }
    }
    for (stream, next_number) in ends {
        let head = state.head(stream);
        if head.tombstone.is_none() && head.last_number.map_or(0, |last| last + 1) < next_number {
            state.skip_to(stream, next_number);
        }
    }
    if let Some(progress) = command.progress {
        note(state, time, progress)?;
    }
    Ok(WriteOutcome::Imported { stored, present, position: state.next_position().saturating_sub(1) })
}

fn is_progress_stream(name: &str) -> bool {
    name.len() > stream_name::IMPORT_PREFIX.len() && name.starts_with(stream_name::IMPORT_PREFIX)
}

/// An event that fits.
struct Checked<Stream> {
    stream: Stream,
    id: Uuid,
    /// It was stored before.
    is_present: bool,
}

/// What the command has of a stream so far.
#[derive(Default)]
struct Ahead {
    last_number: Option<EventNumber>,
    is_deleted: bool,
    gaps: usize,
}

type Checks<Stream> = Result<Vec<Checked<Stream>>, WriteOutcome>;

/// Compares every event with the state before the command and the events of the command before it.
fn check<S: View>(
    state: &mut S,
    events: &[ImportedEvent],
    ahead: &mut HashMap<S::Stream, Ahead>,
) -> Result<Checks<S::Stream>, S::Error> {
    let mut checked = Vec::with_capacity(events.len());
    for imported in events {
        let id = match form(imported) {
            Ok(id) => id,
            Err(refused) => return Ok(Err(refused)),
        };
        let stream = state.stream(&imported.stream)?;
        let place = place(state, ahead.entry(stream).or_default(), stream, imported.number, id)?;
        match place {
            Ok(is_present) => checked.push(Checked { stream, id, is_present }),
            Err(conflict) => return Ok(Err(refusal(state, stream, imported.number, conflict))),
        }
    }
    Ok(Ok(checked))
}

type CheckedEnds<Stream> = Result<Vec<(Stream, EventNumber)>, WriteOutcome>;

/// The streams that go on at a number, as far as such a store can have them. A stream that has come
/// further by itself stays as it is.
fn check_ends<S: View>(
    state: &mut S,
    ends: &[ImportedEnd],
    ahead: &mut HashMap<S::Stream, Ahead>,
) -> Result<CheckedEnds<S::Stream>, S::Error> {
    let mut checked = Vec::with_capacity(ends.len());
    for ImportedEnd { stream: name, next_number } in ends {
        // The newest event of a metastream is what it is about, and is never removed before it.
        if name.is_empty() || name == stream_name::ALL || StreamNameRef::new(name).is_metastream() {
            return Ok(Err(rejected("no such stream goes on without its last event")));
        }
        if !(1..=MAX_NUMBER).contains(next_number) {
            return Ok(Err(rejected("a stream goes on at a number that no event can have")));
        }
        let stream = state.stream(name)?;
        let ahead = ahead.entry(stream).or_default();
        if let Some(last) = ahead.last_number.or(state.head(stream).last_number)
            && last + 1 < *next_number
        {
            ahead.gaps += 1;
            if state.gaps(stream) + ahead.gaps > MAX_GAPS {
                return Ok(Err(refusal(state, stream, *next_number, ImportConflict::TooManyGaps)));
            }
        }
        ahead.last_number = ahead.last_number.max(Some(*next_number - 1));
        checked.push((stream, *next_number));
    }
    Ok(Ok(checked))
}

fn refusal<S: View>(state: &S, stream: S::Stream, number: EventNumber, conflict: ImportConflict) -> WriteOutcome {
    let current = state.head(stream).current_version();
    WriteOutcome::NotImported(ImportRefusal { stream: state.name(stream).to_owned(), number, current, conflict })
}

/// The id of an event that a store like this can have.
fn form(imported: &ImportedEvent) -> Result<Uuid, WriteOutcome> {
    let name = &imported.stream;
    if name.is_empty() || name == stream_name::ALL {
        return Err(rejected("an imported event has no stream of its own"));
    }
    let described = StreamNameRef::new(name).described();
    if described.is_some_and(|described| described.as_str().is_empty() || described.is_metastream()) {
        return Err(rejected("a metastream has no metadata of its own"));
    }
    if imported.number > MAX_NUMBER {
        return Err(rejected("an imported event has a number beyond the last one"));
    }
    if described.is_some() && imported.number == MAX_NUMBER {
        return Err(rejected("a metastream has no tombstone"));
    }
    match &imported.event {
        Some(event) => event_id(&event.event_id),
        None => Err(rejected("an imported event has no content")),
    }
}

/// Whether the event is here already, if it fits at its number.
fn place<S: View>(
    state: &mut S,
    ahead: &mut Ahead,
    stream: S::Stream,
    number: EventNumber,
    id: Uuid,
) -> Result<Result<bool, ImportConflict>, S::Error> {
    let head = state.head(stream);
    let (tombstone, last_number) = (head.tombstone, head.last_number);
    if number == MAX_NUMBER {
        return Ok(match tombstone {
            Some(position) if state.event_id_at(position)? == id => Ok(true),
            Some(_) => Err(ImportConflict::Deleted),
            None if std::mem::replace(&mut ahead.is_deleted, true) => Err(ImportConflict::Deleted),
            None => Ok(false),
        });
    }
    if last_number.is_some_and(|last| number <= last) {
        return known(state, stream, number, id);
    }
    if tombstone.is_some() || ahead.is_deleted {
        return Ok(Err(ImportConflict::Deleted));
    }
    let last = ahead.last_number.or(last_number);
    match last {
        Some(last) if number <= last => return Ok(Err(ImportConflict::OutOfOrder)),
        Some(last) if number > last + 1 => ahead.gaps += 1,
        _ => {}
    }
    if state.gaps(stream) + ahead.gaps > MAX_GAPS {
        return Ok(Err(ImportConflict::TooManyGaps));
    }
    ahead.last_number = Some(number);
    Ok(Ok(false))
}

/// Whether an event up to the last one of its stream is this one, or was before it was removed.
///
/// Everything that this asks is part of the replicated state. Rows of forgotten ids may still be
/// there on one node and not on another, so they count for nothing: such an event is taken for the
/// one that was here.
fn known<S: View>(
    state: &mut S,
    stream: S::Stream,
    number: EventNumber,
    id: Uuid,
) -> Result<Result<bool, ImportConflict>, S::Error> {
    let removed = &state.head(stream).removed;
    let (removed_before, forgotten_before) = (removed.before, removed.forgotten_before);
    if number < forgotten_before {
        return Ok(Ok(true));
    }
    let position = state.position_of(stream, number)?;
    let is_it = match position {
        Some(position) if number >= removed_before => state.event_id_at(position)? == id,
        // An id that a stream has twice is known by its first number.
        Some(_) => state.number_of_id(stream, id)?.is_some_and(|first| first <= number),
        None => false,
    };
    Ok(match position {
        _ if is_it => Ok(true),
        Some(_) => Err(ImportConflict::OtherEvent),
        None => Err(ImportConflict::Missing),
    })
}

/// Stores an event that fits, and lets it take effect.
fn store<S: Batch>(
    state: &mut S,
    time: Ticks,
    checked: Checked<S::Stream>,
    imported: ImportedEvent,
) -> Result<(), S::Error> {
    let Checked { stream, id, .. } = checked;
    // Never after the command itself: later writes are not stamped with earlier times.
    let time = time.min(Ticks(imported.time_ticks));
    if imported.number == MAX_NUMBER {
        state.append_tombstone(stream, time, id);
        return Ok(());
    }
    let event = imported.event.unwrap_or_default();
    let described = StreamNameRef::new(&imported.stream).described();
    let metadata = described.map(|_| event.is_json.then(|| StreamMetadata::parse(&event.data)).flatten());
    state.append_at(stream, imported.number, time, id, event)?;
    if let (Some(described), Some(metadata)) = (described, metadata) {
        let described = state.stream(described.as_str())?;
        if state.head(described).tombstone.is_none() {
            state.set_metadata(described, metadata);
        }
    }
    Ok(())
}

/// Notes how far the import has come, unless the last note says the same.
fn note<S: Batch>(state: &mut S, time: Ticks, progress: ImportProgress) -> Result<(), S::Error> {
    let stream = state.stream(&progress.stream)?;
    if state.head(stream).tombstone.is_some() {
        return Ok(());
    }
    let head = state.head(stream);
    let (is_soft_deleted, next_number) = (head.is_soft_deleted(), head.last_number.map_or(0, |last| last + 1));
    if is_soft_deleted {
        // Somebody has deleted the notes. The next run looks for them.
        metadata::recreate(state, time, stream, next_number)?;
    } else if metadata::last_document(state, stream)?.is_some_and(|(_, document)| document == progress.document) {
        return Ok(());
    }
    // The position makes the id unique, and it is the same on every node and after every replay.
    let id = Uuid::new_v5(&PROGRESS_EVENTS, &state.next_position().to_be_bytes());
    let event = NewEvent {
        event_id: Bytes::copy_from_slice(id.as_bytes()),
        event_type: PROGRESS_EVENT_TYPE.to_owned(),
        is_json: true,
        data: progress.document,
        metadata: Bytes::new(),
    };
    state.append(stream, time, id, event)?;
    Ok(())
}
