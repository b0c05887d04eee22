//! Blanking single events (docs/adr/0021-removal-is-replicated.md).

use headwater_proto::stored::Redact;

use super::rejected;
use super::state::Batch;
use crate::event::{MAX_NUMBER, StreamNameRef, WriteOutcome, stream_name};

/// Blanks an event. The event that holds the metadata in force cannot be blanked: they would stay
/// in force on nodes that know them, and be gone on others.
pub(super) fn apply<S: Batch>(state: &mut S, command: &Redact) -> Result<WriteOutcome, S::Error> {
    let Redact { stream: name, number } = command;
    if name.is_empty() || name == stream_name::ALL || *number >= MAX_NUMBER {
        return Ok(rejected("there is no such event"));
    }
    let stream = state.stream(name)?;
    let is_in_force = StreamNameRef::new(name).is_metastream() && state.head(stream).last_number == Some(*number);
    if is_in_force {
        return Ok(rejected("this event holds the metadata in force; write others first"));
    }
    Ok(match state.redact(stream, *number)? {
        Some(position) => WriteOutcome::Redacted { position },
        None => rejected("there is no such event"),
    })
}
