//! Streams of an EventStore whose last events may be gone. Its log tells of a truncation by the
//! metadata alone: a stream that is empty since goes on behind the number that `$tb` names.

use std::collections::HashMap;

use crate::event::{EventNumber, MAX_IMPORTED_NUMBER, RecordedEvent, StreamMetadata, StreamNameRef};

/// Truncated streams that a run remembers, at about 100 bytes each.
const MAX_STREAMS: usize = 1_000_000;

/// Collects them while the log is read.
#[derive(Default)]
pub(super) struct Truncated {
    /// The numbers from which readers see the stream, for as long as the log has not shown the
    /// event before.
    streams: HashMap<String, EventNumber>,
}

impl Truncated {
    /// Looks at the next event of the log.
    pub(super) fn look_at(&mut self, event: &RecordedEvent) {
        let name = StreamNameRef::new(&event.stream);
        let Some(described) = name.described() else {
            if self.streams.get(&event.stream).is_some_and(|before| event.number + 1 >= *before) {
                self.streams.remove(&event.stream);
            }
            return;
        };
        let metadata = if event.is_json { StreamMetadata::parse(&event.data) } else { None };
        let before = metadata.and_then(|metadata| metadata.truncate_before);
        // A larger one hides everything that will ever be there.
        match before.filter(|before| (1..=MAX_IMPORTED_NUMBER).contains(before)) {
            Some(before) if self.streams.len() < MAX_STREAMS => {
                self.streams.insert(described.as_str().to_owned(), before);
            }
            _ => drop(self.streams.remove(described.as_str())),
        }
    }

    /// The streams that are left, and the numbers at which they go on unless the server knows
    /// better.
    pub(super) fn take(&mut self) -> Vec<(String, EventNumber)> {
        std::mem::take(&mut self.streams).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::event::Ticks;

    fn event(stream: &str, number: EventNumber, data: &'static str) -> RecordedEvent {
        RecordedEvent {
            position: 0,
            stream: stream.to_owned(),
            number,
            event_id: Uuid::nil(),
            event_type: "t".to_owned(),
            is_json: true,
            time: Ticks(0),
            data: Bytes::from_static(data.as_bytes()),
            metadata: Bytes::new(),
        }
    }

    #[test]
    fn a_truncated_stream_is_remembered_until_its_last_event_is_seen() {
        let mut truncated = Truncated::default();
        for event in [
            event("$$gone", 0, "{\"$tb\":10}"),
            event("gone", 4, ""),
            event("$$goes-on", 0, "{\"$tb\":10}"),
            event("goes-on", 9, ""),
            event("$$deleted", 0, "{\"$tb\":9223372036854775807}"),
            event("$$hidden-for-ever", 0, "{\"$tb\":9223372036854775806}"),
            event("$$whole", 0, "{\"$tb\":3}"),
            event("$$whole", 1, "{}"),
        ] {
            truncated.look_at(&event);
        }
        assert_eq!(truncated.take(), [("gone".to_owned(), 10)]);
        assert!(truncated.take().is_empty());
    }
}
