//! Soft and hard deletes (contract/streams 7).

use bytes::Bytes;
use headwater_proto::stored::{Delete, NewEvent};
use uuid::Uuid;

use super::append::{Attempt, Decision, decide};
use super::state::{Batch, View};
use super::{event_id, expected_version, metadata, rejected};
use crate::event::metadata::{SOFT_DELETE_DOCUMENT, soft_delete_document};
use crate::event::{
    ExpectedVersion, METADATA_EVENT_TYPE, Position, StreamMetadata, StreamNameRef, Ticks, WriteOutcome, stream_name,
};

pub(super) fn apply<S: Batch>(state: &mut S, time: Ticks, command: Delete) -> Result<WriteOutcome, S::Error> {
    let (expected, id) = match check(&command) {
        Ok(checked) => checked,
        Err(refusal) => return Ok(refusal),
    };
    let stream = state.stream(&command.stream)?;
    let done_before =
        if command.hard { tombstone_with_id(state, stream, id)? } else { soft_delete_with_id(state, stream, id)? };
    if let Some(position) = done_before {
        return Ok(WriteOutcome::Deleted { position });
    }
    match decide(state, stream, &Attempt::of_version(expected))? {
        Decision::Ok | Decision::Idempotent { .. } => {}
        Decision::Refused(outcome) => return Ok(outcome),
    }
    let position = if command.hard {
        state.append_tombstone(stream, time, id)
    } else {
        let metastream = metadata::metastream_of(state, stream)?;
        let document = mark_of_deletion(state, metastream, &command)?;
        soft_delete(state, time, stream, metastream, id, document)?
    };
    Ok(WriteOutcome::Deleted { position })
}

fn check(command: &Delete) -> Result<(ExpectedVersion, Uuid), WriteOutcome> {
    let stream = &command.stream;
    if stream.is_empty() || stream == stream_name::ALL || StreamNameRef::new(stream).is_metastream() {
        return Err(rejected("nobody may delete this stream"));
    }
    match expected_version(command.expected_version)? {
        ExpectedVersion::Exists => Err(rejected("a delete cannot expect that the stream exists")),
        expected => Ok((expected, event_id(&command.event_id)?)),
    }
}

fn tombstone_with_id<S: View>(state: &S, stream: S::Stream, id: Uuid) -> Result<Option<Position>, S::Error> {
    let Some(position) = state.head(stream).tombstone else {
        return Ok(None);
    };
    Ok((state.event_id_at(position)? == id).then_some(position))
}

fn soft_delete_with_id<S: View>(state: &mut S, stream: S::Stream, id: Uuid) -> Result<Option<Position>, S::Error> {
    let metastream = metadata::metastream_of(state, stream)?;
    match state.number_of_id(metastream, id)? {
        Some(number) => state.position_of(metastream, number),
        None => Ok(None),
    }
}

/// The metadata document of a stream that is soft-deleted: besides the mark the access list that
/// was in force. Deletes of older versions erased the list, and a replay has to do so again.
fn mark_of_deletion<S: View>(state: &S, metastream: S::Stream, command: &Delete) -> Result<Bytes, S::Error> {
    if command.keeps_access_list
        && let Some((true, present)) = metadata::last_document(state, metastream)?
    {
        return Ok(soft_delete_document(&present).into_owned().into());
    }
    Ok(Bytes::from_static(SOFT_DELETE_DOCUMENT))
}

/// Replaces the metadata by the mark; what is not in it is gone.
fn soft_delete<S: Batch>(
    state: &mut S,
    time: Ticks,
    stream: S::Stream,
    metastream: S::Stream,
    id: Uuid,
    document: Bytes,
) -> Result<Position, S::Error> {
    let event = NewEvent {
        event_id: Bytes::copy_from_slice(id.as_bytes()),
        event_type: METADATA_EVENT_TYPE.to_owned(),
        is_json: true,
        data: document.clone(),
        metadata: Bytes::new(),
    };
    let position = state.append(metastream, time, id, event)?;
    state.set_metadata(stream, StreamMetadata::parse(&document));
    Ok(position)
}
