//! Soft and hard deletes (contract/streams 7).

use bytes::Bytes;
use headwater_proto::stored::{Delete, NewEvent};
use uuid::Uuid;

use super::append::{Decision, Demand, decide};
use super::{event_id, expected_version, metadata, rejected};
use crate::event::metadata::SOFT_DELETE_DOCUMENT;
use crate::event::{
    ExpectedVersion, METADATA_EVENT_TYPE, Position, StreamMetadata, StreamNameRef, Ticks, WriteOutcome, stream_name,
};
use crate::store::ReadError;
use crate::store::write::{Chunk, StreamRef};

pub(super) fn apply(chunk: &mut Chunk<'_>, time: Ticks, command: Delete) -> Result<WriteOutcome, ReadError> {
    let (expected, id) = match check(&command) {
        Ok(checked) => checked,
        Err(refusal) => return Ok(refusal),
    };
    let stream = chunk.stream(&command.stream)?;
    let done_before =
        if command.hard { tombstone_with_id(chunk, stream, id)? } else { soft_delete_with_id(chunk, stream, id)? };
    if let Some(position) = done_before {
        return Ok(WriteOutcome::Deleted { position });
    }
    match decide(chunk, stream, &Demand::of_version(expected))? {
        Decision::Ok | Decision::Idempotent { .. } => {}
        Decision::WrongVersion => {
            return Ok(WriteOutcome::WrongExpectedVersion { current: chunk.head(stream).current_version() });
        }
        Decision::Deleted => return Ok(WriteOutcome::StreamDeleted),
    }
    let position =
        if command.hard { chunk.append_tombstone(stream, time, id) } else { soft_delete(chunk, time, stream, id)? };
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

fn tombstone_with_id(chunk: &Chunk<'_>, stream: StreamRef, id: Uuid) -> Result<Option<Position>, ReadError> {
    let Some(position) = chunk.head(stream).tombstone else {
        return Ok(None);
    };
    Ok((chunk.event_id_at(position)? == id).then_some(position))
}

fn soft_delete_with_id(chunk: &mut Chunk<'_>, stream: StreamRef, id: Uuid) -> Result<Option<Position>, ReadError> {
    let metastream = metadata::metastream_of(chunk, stream)?;
    match chunk.number_of_id(metastream, id)? {
        Some(number) => chunk.position_of(metastream, number),
        None => Ok(None),
    }
}

/// Replaces the metadata by the mark of a deleted stream; everything else that was in it is gone.
fn soft_delete(chunk: &mut Chunk<'_>, time: Ticks, stream: StreamRef, id: Uuid) -> Result<Position, ReadError> {
    let metastream = metadata::metastream_of(chunk, stream)?;
    let event = NewEvent {
        event_id: Bytes::copy_from_slice(id.as_bytes()),
        event_type: METADATA_EVENT_TYPE.to_owned(),
        is_json: true,
        data: Bytes::from_static(SOFT_DELETE_DOCUMENT),
        metadata: Bytes::new(),
    };
    let position = chunk.append(metastream, time, id, event)?;
    chunk.set_metadata(stream, StreamMetadata::parse(SOFT_DELETE_DOCUMENT));
    Ok(position)
}
