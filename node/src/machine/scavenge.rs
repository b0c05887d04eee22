//! Removing for ever what nobody can see any more (docs/adr/0021-removal-is-replicated.md).

use headwater_proto::stored::Scavenge;

use super::rejected;
use super::state::{Batch, View};
use crate::deliberate::{self, Fault};
use crate::event::removal::{MAX_SCAVENGED_EVENTS, MAX_SCAVENGED_STREAMS};
use crate::event::{Removable, StreamMetadata, StreamNameRef, Ticks, WriteOutcome};

/// Removes what can be removed of the streams, one after the other, until enough is removed. What
/// that is depends on the state and on the time of the entry only; a stream that is no longer to be
/// truncated when the command comes to it keeps its events.
pub(super) fn apply<S: Batch>(state: &mut S, time: Ticks, command: &Scavenge) -> Result<WriteOutcome, S::Error> {
    if command.streams.is_empty() || command.streams.len() > MAX_SCAVENGED_STREAMS {
        return Ok(rejected("a scavenge names no stream, or too many"));
    }
    if !(1..=MAX_SCAVENGED_EVENTS).contains(&command.max_events) {
        return Ok(rejected("a scavenge removes no event, or too many"));
    }
    let (mut events, mut bytes, mut finished_streams) = (0, 0, 0);
    for name in &command.streams {
        let stream = state.stream(name)?;
        if let Some(removable) = removable(state, stream, time)? {
            let most = u64::from(command.max_events) - events;
            let removed = state.remove_events(stream, removable, time, most)?;
            events += removed.events;
            bytes += removed.bytes;
            if !removed.is_finished {
                break;
            }
        }
        state.forget_ids(stream, Ticks(command.forget_removed_before));
        finished_streams += 1;
    }
    Ok(WriteOutcome::Scavenged { events, bytes, finished_streams })
}

/// What of the stream can be removed at this time; `None` when it has no events.
fn removable<S: View>(state: &mut S, stream: S::Stream, time: Ticks) -> Result<Option<Removable>, S::Error> {
    let name = state.name(stream).to_owned();
    let described = StreamNameRef::new(&name).described();
    let described = described.map(|described| state.stream(described.as_str())).transpose()?;
    let head = state.head(stream);
    let Some(last) = head.last_number else { return Ok(None) };
    let is_tombstoned = head.tombstone.is_some() || described.is_some_and(|of| state.head(of).tombstone.is_some());
    let metadata = match described {
        Some(_) => StreamMetadata::of_metastream(),
        None => head.metadata.as_deref().cloned().unwrap_or_default(),
    };
    if deliberate::is(Fault::ScavengeTooMuch) && metadata.truncate_before.is_some() {
        return Ok(Some(Removable { below: last, oldest: None }));
    }
    Ok(Some(Removable::of(StreamNameRef::new(&name), is_tombstoned, last, &metadata, time)))
}
