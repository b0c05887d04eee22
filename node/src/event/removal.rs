//! What of a stream may be removed for ever, and what has been.
//!
//! The state machine removes events by the metadata of their stream and by the time of the log
//! entry alone, so every node removes the same ones at the same point of the log
//! (docs/adr/0021-removal-is-replicated.md).

use super::visibility::{self, Bounds};
use super::{EventNumber, StreamMetadata, StreamNameRef, Ticks};

/// Streams that one command scavenges at most: all of it is one step for every reader.
pub(crate) const MAX_SCAVENGED_STREAMS: usize = 1_024;

/// Events that one command removes at most.
pub(crate) const MAX_SCAVENGED_EVENTS: u32 = 4_096;

/// The events at the beginning of a stream that nobody can see any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removable {
    /// Those with smaller numbers.
    pub(crate) below: EventNumber,
    /// Behind them, those before this time; `None` when age does not count.
    pub(crate) oldest: Option<Ticks>,
}

impl Removable {
    /// What can go of a stream that is deleted, softly or for ever: all events. Its last number
    /// stays known.
    pub(crate) const ALL: Self = Self { below: EventNumber::MAX, oldest: None };

    /// What can go of a stream with this last number and metadata, at this time. A metastream has
    /// the fixed metadata, and is hard-deleted with the stream that it describes.
    ///
    /// The age of users and of the default access lists does not count, as it does not count where
    /// they are asked for: only writes change rights, never the clock.
    pub(crate) fn of(
        stream: StreamNameRef<'_>,
        is_tombstoned: bool,
        last: EventNumber,
        metadata: &StreamMetadata,
        now: Ticks,
    ) -> Self {
        if is_tombstoned || metadata.is_soft_deleted() {
            return Self::ALL;
        }
        let oldest = visibility::oldest_visible(metadata, now).filter(|_| !stream.is_of_access());
        Self { below: Bounds::new(last, 0, metadata).min, oldest }
    }

    /// Whether the event with this number and time is among them, if all before it are.
    pub(crate) fn includes(&self, number: EventNumber, time: Ticks) -> bool {
        number < self.below || self.oldest.is_some_and(|oldest| time < oldest)
    }

    /// Whether the event with this number is among them whatever its time is.
    pub(crate) fn includes_any_age(&self, number: EventNumber) -> bool {
        number < self.below
    }
}

/// What has been removed of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Events with smaller numbers are gone for ever.
    pub(crate) before: EventNumber,
    /// The ids of events with smaller numbers are forgotten, too.
    pub(crate) forgotten_before: EventNumber,
    /// The removals whose events' ids are still known, oldest first.
    pub(crate) marks: Vec<RemovalMark>,
}

/// Events that were removed at about the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RemovalMark {
    /// They have smaller numbers.
    pub(crate) before: EventNumber,
    /// When the last of them was removed.
    pub(crate) time: Ticks,
}

/// What one removal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RemovedEvents {
    /// Events that are gone.
    pub(crate) events: u64,
    /// Bytes of their rows.
    pub(crate) bytes: u64,
    /// Whether nothing more of the stream can be removed now.
    pub(crate) is_finished: bool,
}

/// Removals of one such span of time share a mark, so a stream that loses events all the time has a
/// few marks only.
const MARK_SPAN: u64 = 6 * 3_600 * Ticks::PER_SECOND;

/// Marks of one stream at most; beyond that the newest ones are merged, which keeps ids longer.
const MAX_MARKS: usize = 64;

impl Removed {
    /// Records that the events below `before` were removed at `time`.
    pub(crate) fn extend(&mut self, before: EventNumber, time: Ticks) {
        debug_assert!(before >= self.before);
        self.before = before;
        let mark = RemovalMark { before, time };
        let is_full = self.marks.len() >= MAX_MARKS;
        let span = |mark: &RemovalMark| mark.time.0 / MARK_SPAN;
        match self.marks.last_mut() {
            Some(last) if span(last) == span(&mark) => *last = mark,
            Some(last) if is_full => *last = mark,
            _ => self.marks.push(mark),
        }
    }

    /// Forgets the ids of the events that were removed before `time`. Returns whether there were
    /// any.
    pub(crate) fn forget(&mut self, time: Ticks) -> bool {
        let aged = self.marks.iter().take_while(|mark| mark.time < time).count();
        let Some(newest) = self.marks.drain(..aged).next_back() else { return false };
        self.forgotten_before = newest.before;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MAX_NUMBER;

    const DAY: u64 = 86_400 * Ticks::PER_SECOND;

    fn metadata(max_count: Option<u64>, truncate_before: Option<u64>, max_age_s: Option<u64>) -> StreamMetadata {
        StreamMetadata { max_count, truncate_before, max_age_s, ..StreamMetadata::default() }
    }

    #[test]
    fn what_nobody_can_see_may_go() {
        let now = Ticks(10 * DAY);
        let of = |max_count, truncate_before, max_age| {
            let metadata = metadata(max_count, truncate_before, max_age);
            Removable::of(StreamNameRef::new("s"), false, 29, &metadata, now)
        };
        assert_eq!(of(None, None, None), Removable { below: 0, oldest: None });
        assert_eq!(of(Some(5), Some(20), None), Removable { below: 25, oldest: None });
        assert_eq!(of(Some(5), Some(40), None).below, 40);
        assert_eq!(of(None, Some(MAX_NUMBER), None), Removable::ALL);
        let deleted = Removable::of(StreamNameRef::new("s"), true, 29, &metadata(None, None, None), now);
        assert_eq!(deleted, Removable::ALL);
        for of_access in ["$settings", "$user-ann"] {
            let aged = metadata(None, Some(3), Some(86_400));
            let removable = Removable::of(StreamNameRef::new(of_access), false, 29, &aged, now);
            assert_eq!(removable, Removable { below: 3, oldest: None }, "{of_access}");
        }
        let aged = of(None, Some(3), Some(86_400));
        assert_eq!(aged, Removable { below: 3, oldest: Some(Ticks(9 * DAY)) });
        assert!(aged.includes(2, now) && aged.includes(3, Ticks(9 * DAY - 1)) && !aged.includes(3, Ticks(9 * DAY)));
        assert!(aged.includes_any_age(2) && !aged.includes_any_age(3));
    }

    #[test]
    fn ids_are_forgotten_no_earlier_than_their_time_and_not_much_later() {
        let hour = 3_600 * Ticks::PER_SECOND;
        let mut removed = Removed::default();
        // A stream that loses ten events an hour, whose ids are kept for a day.
        for at in 1..=200u64 {
            let now = Ticks(1_000 * DAY + at * hour);
            removed.extend(10 * at, now);
            removed.forget(Ticks(now.0 - 24 * hour));
            let of_age = at.saturating_sub(24) * 10;
            assert!(removed.forgotten_before <= of_age, "{at}: {removed:?}");
            assert!(removed.forgotten_before + 140 >= of_age, "{at}: {removed:?}");
            assert!(removed.marks.len() <= 6, "{at}: {removed:?}");
            assert_eq!(removed.before, 10 * at);
        }
        assert!(removed.forget(Ticks(2_000 * DAY)));
        assert_eq!((removed.forgotten_before, removed.marks.len()), (2_000, 0));
        assert!(!removed.forget(Ticks(3_000 * DAY)));
    }

    #[test]
    fn ids_that_are_never_forgotten_take_a_bounded_place() {
        let mut removed = Removed::default();
        for at in 1..=1_000 {
            removed.extend(at, Ticks(at * DAY));
        }
        assert_eq!((removed.before, removed.marks.len()), (1_000, MAX_MARKS));
        assert_eq!(removed.marks.last(), Some(&RemovalMark { before: 1_000, time: Ticks(1_000 * DAY) }));
    }
}
