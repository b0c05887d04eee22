//! Hashes of ranges of positions, by which two copies of a log are compared without sending it.
//!
//! Every event counts with all that readers can see of it. A position without an event counts by
//! its absence, because each event is hashed with its position. Of a short range every event has a
//! hash of its own as well, so that it can be told what has become of which.

use std::ops::{ControlFlow, Range};

use blake2::{Blake2b512, Digest};
use serde::{Deserialize, Serialize};

use crate::event::{EventRef, Position};

/// Events that are hashed at once.
pub(crate) const MAX_HASHED_EVENTS: u64 = 65_536;

/// Bytes of events that are hashed at once, exceeded by one event at most: a tenth of a second of
/// one core.
pub(crate) const MAX_HASHED_BYTES: usize = 64 << 20;

/// Positions of a range whose events are hashed one by one at most.
pub(crate) const MAX_LISTED_POSITIONS: u64 = 1_024;

/// Bytes of a hash that are kept.
const HASH_BYTES: usize = 16;

/// The same of the hash of one event.
const EVENT_HASH_BYTES: usize = 8;

/// The hash of the events at some positions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RangeHash {
    /// The first position.
    pub(crate) from: Position,
    /// The position after the last one: less than was asked for when that was too much at once, or
    /// when there is no more.
    pub(crate) to: Position,
    /// Events among them.
    pub(crate) events: u64,
    /// Positions among them whose events were removed for ever.
    pub(crate) removed: u64,
    /// Their hash, in hexadecimal.
    pub(crate) hash: String,
    /// Position of the next event to be written.
    pub(crate) next_position: Position,
    /// The positions one by one, where no more than [`MAX_LISTED_POSITIONS`] were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listed: Option<Listed>,
}

/// The positions of a short range.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    /// The events, ascending.
    pub(crate) events: Vec<EventHash>,
    /// Positions whose events were removed for ever, ascending.
    pub(crate) removed: Vec<Position>,
}

/// The hashes of one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventHash {
    /// Where it is.
    pub(crate) position: Position,
    /// The hash of everything but data and metadata, in hexadecimal.
    pub(crate) heading: String,
    /// The hash of data and metadata, in hexadecimal.
    pub(crate) content: String,
    /// Data and metadata are as a redaction leaves them.
    pub(crate) is_blank: bool,
}

/// Computes the hash of a range, event by event in the order of their positions.
pub(crate) struct RangeHasher {
    hash: Blake2b512,
    from: Position,
    to: Position,
    events: u64,
    bytes: usize,
    /// Where the next event is if none is missing.
    expected: Position,
    /// Positions without an event.
    absent: Vec<Range<Position>>,
    listed: Option<Vec<EventHash>>,
    /// Position after the last event, if that is the end.
    full_at: Option<Position>,
}

impl RangeHasher {
    /// For the positions from `from` to `to` (exclusive).
    pub(crate) fn new(from: Position, to: Position) -> Self {
        let to = to.clamp(from, from.saturating_add(MAX_HASHED_EVENTS));
        let listed = (to - from <= MAX_LISTED_POSITIONS).then(Vec::new);
        let hash = Blake2b512::new();
        Self { hash, from, to, events: 0, bytes: 0, expected: from, absent: Vec::new(), listed, full_at: None }
    }

    /// Takes the next event; breaks off when it is beyond the range, or when this one was the last
    /// that may be hashed at once.
    pub(crate) fn add(&mut self, event: &EventRef<'_>) -> ControlFlow<()> {
        if event.position >= self.to {
            return ControlFlow::Break(());
        }
        if event.position > self.expected {
            self.absent.push(self.expected..event.position);
        }
        self.expected = event.position + 1;
        add_heading(&mut self.hash, event);
        add_content(&mut self.hash, event);
        if let Some(listed) = &mut self.listed {
            listed.push(EventHash::of(event));
        }
        self.events += 1;
        self.bytes += event.data.len() + event.metadata.len() + event.stream.len();
        if self.bytes < MAX_HASHED_BYTES {
            return ControlFlow::Continue(());
        }
        self.full_at = Some(event.position + 1);
        ControlFlow::Break(())
    }

    /// The hash of everything taken. `is_removed` tells of a position without an event whether that
    /// was removed for ever.
    ///
    /// # Errors
    /// Those of `is_removed`.
    pub(crate) fn finish<E>(
        mut self,
        next_position: Position,
        mut is_removed: impl FnMut(Position) -> Result<bool, E>,
    ) -> Result<RangeHash, E> {
        let to = self.full_at.unwrap_or(self.to);
        if self.expected < to {
            self.absent.push(self.expected..to);
        }
        let (mut removed, mut removed_at) = (0, Vec::new());
        for position in self.absent.into_iter().flatten() {
            if is_removed(position)? {
                removed += 1;
                if self.listed.is_some() {
                    removed_at.push(position);
                }
            }
        }
        let listed = self.listed.map(|events| Listed { events, removed: removed_at });
        let hash = in_hexadecimal(self.hash, HASH_BYTES);
        Ok(RangeHash { from: self.from, to, events: self.events, removed, hash, next_position, listed })
    }
}

impl EventHash {
    fn of(event: &EventRef<'_>) -> Self {
        let (mut heading, mut content) = (Blake2b512::new(), Blake2b512::new());
        add_heading(&mut heading, event);
        add_content(&mut content, event);
        let blank: &[u8] = if event.is_json { b"{}" } else { b"" };
        Self {
            position: event.position,
            heading: in_hexadecimal(heading, EVENT_HASH_BYTES),
            content: in_hexadecimal(content, EVENT_HASH_BYTES),
            is_blank: event.data == blank && event.metadata.is_empty(),
        }
    }
}

fn add_heading(hash: &mut Blake2b512, event: &EventRef<'_>) {
    add_number(hash, event.position);
    add_text(hash, event.stream.as_bytes());
    add_number(hash, event.number);
    hash.update(event.event_id.as_bytes());
    add_text(hash, event.event_type.as_bytes());
    hash.update([u8::from(event.is_json)]);
    add_number(hash, event.time.0);
}

fn add_content(hash: &mut Blake2b512, event: &EventRef<'_>) {
    add_text(hash, event.data);
    add_text(hash, event.metadata);
}

fn add_number(hash: &mut Blake2b512, number: u64) {
    hash.update(number.to_be_bytes());
}

fn add_text(hash: &mut Blake2b512, text: &[u8]) {
    add_number(hash, text.len() as u64);
    hash.update(text);
}

fn in_hexadecimal(hash: Blake2b512, bytes: usize) -> String {
    hash.finalize()[..bytes].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::event::Ticks;

    fn event(position: Position) -> EventRef<'static> {
        EventRef {
            position,
            stream: "s",
            number: position,
            event_id: Uuid::from_u128(7),
            event_type: "t",
            is_json: true,
            time: Ticks(1),
            data: b"{}",
            metadata: b"",
        }
    }

    fn hash(events: &[EventRef<'_>]) -> RangeHash {
        let mut hasher = RangeHasher::new(0, 10);
        events.iter().for_each(|event| assert!(hasher.add(event).is_continue()));
        finish(hasher, 10)
    }

    /// Nothing was removed but the event at position 4.
    fn finish(hasher: RangeHasher, next_position: Position) -> RangeHash {
        hasher.finish(next_position, |position| Ok::<_, std::convert::Infallible>(position == 4)).unwrap()
    }

    #[test]
    fn everything_about_an_event_counts_and_so_does_its_absence() {
        let base = event(3);
        let before = hash(&[base]);
        assert_eq!((before.from, before.to, before.events, before.hash.len()), (0, 10, 1, 32));
        for changed in [
            EventRef { position: 4, ..base },
            EventRef { stream: "r", ..base },
            EventRef { number: 4, ..base },
            EventRef { event_id: Uuid::from_u128(8), ..base },
            EventRef { event_type: "u", ..base },
            EventRef { is_json: false, ..base },
            EventRef { time: Ticks(2), ..base },
            EventRef { data: b"[]", ..base },
            EventRef { data: b"", metadata: b"{}", ..base },
        ] {
            assert_ne!(hash(&[changed]).hash, before.hash, "{changed:?}");
        }
        assert_ne!(hash(&[]).hash, before.hash);
    }

    #[test]
    fn a_range_ends_where_too_much_would_be_read_at_once() {
        let large = vec![0; MAX_HASHED_BYTES];
        let mut hasher = RangeHasher::new(0, u64::MAX);
        assert!(hasher.add(&EventRef { data: &large, ..event(5) }).is_break());
        assert_eq!(finish(hasher, 9).to, 6);
        let nothing = finish(RangeHasher::new(2, u64::MAX), 9);
        assert_eq!((nothing.to, nothing.listed), (2 + MAX_HASHED_EVENTS, None));
    }

    #[test]
    fn of_a_short_range_every_event_has_a_hash_and_removed_ones_are_named() {
        let base = event(3);
        let listed = |event| hash(&[event]).listed.unwrap();
        let before = listed(base);
        assert_eq!(before.removed, [4]);
        assert_eq!(hash(&[base]).removed, 1);
        let before = &before.events[0];
        assert!(before.is_blank && before.position == 3);
        let changed = &listed(EventRef { data: b"[]", ..base }).events[0];
        assert!(!changed.is_blank && changed.heading == before.heading && changed.content != before.content);
        let renamed = &listed(EventRef { number: 4, ..base }).events[0];
        assert!(renamed.heading != before.heading && renamed.content == before.content);
        let text = &listed(EventRef { is_json: false, data: b"", ..base }).events[0];
        assert!(text.is_blank);
    }
}
