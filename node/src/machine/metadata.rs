//! The effect of writes to a metastream on the stream it describes (contract/streams 7 and 12).

use bytes::Bytes;
use headwater_proto::stored::NewEvent;
use uuid::Uuid;

use super::state::{Batch, View};
use crate::event::metadata::{document_of, with_truncate_before};
use crate::event::{EventNumber, METADATA_EVENT_TYPE, Position, StreamMetadata, StreamNameRef, Ticks};

/// Namespace for the ids of metadata events that the state machine itself writes. Any fixed number
/// would do.
const SERVER_EVENTS: Uuid = Uuid::from_u128(0x5f0c_6f7e_1b7a_5d0c_9d1e_4a2f_83c6_07b1);

/// The metastream of a stream.
pub(super) fn metastream_of<S: View>(state: &mut S, stream: S::Stream) -> Result<S::Stream, S::Error> {
    let name = StreamNameRef::new(state.name(stream)).metastream();
    state.stream(&name)
}

/// The newest event of a stream: whether it is JSON, and its data. `None` when there is none, or it
/// was removed: its row in the index stays for a time.
pub(super) fn last_document<S: View>(state: &S, stream: S::Stream) -> Result<Option<(bool, Bytes)>, S::Error> {
    let head = state.head(stream);
    let last = head.last_number.filter(|number| *number >= head.removed.before);
    let position = last.map(|number| state.position_of(stream, number)).transpose()?.flatten();
    position.map(|position| state.data_at(position)).transpose()
}

/// Lets a soft-deleted stream begin again at `first_number`, all other metadata kept.
pub(super) fn recreate<S: Batch>(
    state: &mut S,
    time: Ticks,
    stream: S::Stream,
    first_number: EventNumber,
) -> Result<(), S::Error> {
    let metastream = metastream_of(state, stream)?;
    let document = match last_document(state, metastream)? {
        Some((_, document)) => document,
        // A restore to an earlier end keeps what was in force later where the event of before was
        // removed (docs/adr/0022-backup-format.md).
        None => state.head(stream).metadata.as_deref().map(document_of).unwrap_or_default().into(),
    };
    truncate(state, time, stream, metastream, &document, first_number)?;
    Ok(())
}

/// Applies the meaning of the event just written at `position`, the last event of the metastream.
/// Posting an object to a soft-deleted stream brings the stream back, by a further event
/// (contract/streams 7). Returns the position of the last event written.
pub(super) fn replaced<S: Batch>(
    state: &mut S,
    time: Ticks,
    stream: S::Stream,
    metastream: S::Stream,
    position: Position,
) -> Result<Position, S::Error> {
    let (is_json, document) = state.data_at(position)?;
    let head = state.head(stream);
    let next_number = head.last_number.map_or(0, |last| last + 1);
    if head.is_soft_deleted()
        && is_json
        && let Some(position) = truncate(state, time, stream, metastream, &document, next_number)?
    {
        return Ok(position);
    }
    let metadata = if is_json { StreamMetadata::parse(&document) } else { None };
    state.set_metadata(stream, metadata);
    Ok(position)
}

/// Writes the document again with another `$tb`; `None` when it is not an object.
fn truncate<S: Batch>(
    state: &mut S,
    time: Ticks,
    stream: S::Stream,
    metastream: S::Stream,
    document: &[u8],
    truncate_before: EventNumber,
) -> Result<Option<Position>, S::Error> {
    let Some(document) = with_truncate_before(document, truncate_before) else {
        return Ok(None);
    };
    state.set_metadata(stream, StreamMetadata::parse(&document));
    // The position makes the id unique, and it is the same on every node and after every replay.
    let id = Uuid::new_v5(&SERVER_EVENTS, &state.next_position().to_be_bytes());
    let event = NewEvent {
        event_id: Bytes::copy_from_slice(id.as_bytes()),
        event_type: METADATA_EVENT_TYPE.to_owned(),
        is_json: true,
        data: document.into(),
        metadata: Bytes::new(),
    };
    state.append(metastream, time, id, event).map(Some)
}
