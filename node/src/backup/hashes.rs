//! Hashes of ranges of positions, by which two copies of a log are compared without sending it.
//!
//! Every event counts with all that readers can see of it. A position without an event counts by its
//! absence, because each event is hashed with its position.

use std::ops::ControlFlow;

use blake2::{Blake2b512, Digest};
use serde::{Deserialize, Serialize};

use crate::event::{EventRef, Position};

/// Events that are hashed at once.
pub const MAX_HASHED_EVENTS: u64 = 65_536;

/// Bytes of events that are hashed at once, exceeded by one event at most: a tenth of a second of one
/// core.
pub const MAX_HASHED_BYTES: usize = 64 << 20;

/// Bytes of a hash that are kept.
const HASH_BYTES: usize = 16;

/// The hash of the events at some positions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RangeHash {
    /// The first position.
    pub from: Position,
    /// The position after the last one: less than was asked for when that was too much at once, or
    /// when there is no more.
    pub to: Position,
    /// Events among them.
    pub events: u64,
    /// Their hash, in hexadecimal.
    pub hash: String,
    /// Position of the next event to be written.
    pub next_position: Position,
}

/// Computes the hash of a range, event by event in the order of their positions.
pub struct RangeHasher {
    hash: Blake2b512,
    from: Position,
    to: Position,
    events: u64,
    bytes: usize,
    /// Position after the last event, if that is the end.
    full_at: Option<Position>,
}

impl RangeHasher {
    /// For the positions from `from` to `to` (exclusive).
    pub fn new(from: Position, to: Position) -> Self {
        let to = to.clamp(from, from.saturating_add(MAX_HASHED_EVENTS));
        Self { hash: Blake2b512::new(), from, to, events: 0, bytes: 0, full_at: None }
    }

    /// Takes the next event; breaks off when it is beyond the range, or when this one was the last that
    /// may be hashed at once.
    pub fn add(&mut self, event: &EventRef<'_>) -> ControlFlow<()> {
        if event.position >= self.to {
            return ControlFlow::Break(());
        }
        self.number(event.position);
        self.text(event.stream.as_bytes());
        self.number(event.number);
        self.hash.update(event.event_id.as_bytes());
        self.text(event.event_type.as_bytes());
        self.hash.update([u8::from(event.is_json)]);
        self.number(event.time.0);
        self.text(event.data);
        self.text(event.metadata);
        self.events += 1;
        self.bytes += event.data.len() + event.metadata.len() + event.stream.len();
        if self.bytes < MAX_HASHED_BYTES {
            return ControlFlow::Continue(());
        }
        self.full_at = Some(event.position + 1);
        ControlFlow::Break(())
    }

    /// The hash of everything taken.
    pub fn finish(self, next_position: Position) -> RangeHash {
        let hash = self.hash.finalize();
        let hash = hash[..HASH_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        RangeHash { from: self.from, to: self.full_at.unwrap_or(self.to), events: self.events, hash, next_position }
    }

    fn number(&mut self, number: u64) {
        self.hash.update(number.to_be_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.hash.update(text);
    }
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
        hasher.finish(10)
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
        assert_eq!(hasher.finish(9).to, 6);
        assert_eq!(RangeHasher::new(2, u64::MAX).finish(9).to, 2 + MAX_HASHED_EVENTS);
    }
}
