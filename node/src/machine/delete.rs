//! Soft and hard deletes (contract/streams 7).

use bytes::Bytes;
use headwater_proto::stored::{Delete, NewEvent};
use uuid::Uuid;

use super::append::{Attempt, Decision, decide};
use super::state::{Batch, View};
use super::{event_id, expected_version, metadata, rejected};
use crate::event::metadata::SOFT_DELETE_DOCUMENT;
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
    let position =
        if command.hard { state.append_tombstone(stream, time, id) } else { soft_delete(state, time, stream, id)? };
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

/// Replaces the metadata by the mark of a deleted stream; all other metadata is lost.
fn soft_delete<S: Batch>(state: &mut S, time: Ticks, stream: S::Stream, id: Uuid) -> Result<Position, S::Error> {
    let metastream = metadata::metastream_of(state, stream)?;
    let event = NewEvent {
        event_id: Bytes::copy_from_slice(id.as_bytes()),
        event_type: METADATA_EVENT_TYPE.to_owned(),
        is_json: true,
        data: Bytes::from_static(SOFT_DELETE_DOCUMENT),
        metadata: Bytes::new(),
    };
    let position = state.append(metastream, time, id, event)?;
    state.set_metadata(stream, StreamMetadata::parse(SOFT_DELETE_DOCUMENT));
    Ok(position)
}
