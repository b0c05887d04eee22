//! Which events of a stream its readers may see: deletion, `$tb`, `$maxCount` and `$maxAge` are
//! judged only here (contract/streams 7, 8.1 and 12.4).

use super::{EventNumber, MAX_NUMBER, StreamMetadata, Ticks};

/// What readers may see of a stream at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// The stream can be read, although perhaps none of its events is visible.
    Readable(VisibleEvents),
    /// The stream never had an event, or it is soft-deleted.
    NotFound,
    /// The stream is hard-deleted.
    Deleted,
}

impl Visibility {
    /// What is visible of a stream with this metadata.
    pub(crate) fn new(stored: StoredNumbers, metadata: &StreamMetadata, now: Ticks) -> Self {
        Self::of(stored, metadata, oldest_visible(metadata, now))
    }

    /// The same for reads that ignore the age of events.
    pub(crate) fn regardless_of_age(stored: StoredNumbers, metadata: &StreamMetadata) -> Self {
        Self::of(stored, metadata, None)
    }

    fn of(stored: StoredNumbers, metadata: &StreamMetadata, oldest: Option<Ticks>) -> Self {
        match stored.last {
            _ if stored.is_tombstoned => Self::Deleted,
            Some(last) if !metadata.is_soft_deleted() => {
                Self::Readable(VisibleEvents { bounds: Bounds::new(last, stored.removed_before, metadata), oldest })
            }
            _ => Self::NotFound,
        }
    }
}

/// What a stream has of events, whatever its metadata say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StoredNumbers {
    /// The stream is hard-deleted.
    pub(crate) is_tombstoned: bool,
    /// Number of the last event ever committed, if there was one.
    pub(crate) last: Option<EventNumber>,
    /// Events with smaller numbers were removed for ever.
    pub(crate) removed_before: EventNumber,
}

/// The events of a stream that readers may see at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VisibleEvents {
    /// Their numbers.
    pub(crate) bounds: Bounds,
    /// Events before this time are too old by `$maxAge`; `None` if age does not count.
    oldest: Option<Ticks>,
}

impl VisibleEvents {
    /// Every event: the log of all events hides none.
    pub(crate) const ALL: Self = Self { bounds: Bounds { min: 0, last: MAX_NUMBER }, oldest: None };

    /// Whether a reader may see the stored event with this number and time.
    pub(crate) fn shows(&self, number: EventNumber, time: Ticks) -> bool {
        self.bounds.contains(number) && self.oldest.is_none_or(|oldest| time >= oldest)
    }

    /// Whether numbers alone decide which events are visible, now and later.
    pub(crate) fn is_ageless(&self) -> bool {
        self.oldest.is_none()
    }
}

/// The numbers of a stream that readers may see, before the age of events is considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The smallest visible number; above `last` when everything is truncated.
    pub(crate) min: EventNumber,
    /// Number of the last event ever committed.
    pub(crate) last: EventNumber,
}

impl Bounds {
    /// Applies `$maxCount` and `$tb` to a stream whose last event is `last`, and whose events below
    /// `removed_before` were removed.
    pub(crate) fn new(last: EventNumber, removed_before: EventNumber, metadata: &StreamMetadata) -> Self {
        let by_count = metadata.max_count.map_or(0, |count| (last + 1).saturating_sub(count));
        Self { min: by_count.max(metadata.truncate_before.unwrap_or(0)).max(removed_before), last }
    }

    /// Whether a reader may see this number, if the event is stored and young enough.
    pub(crate) fn contains(&self, number: EventNumber) -> bool {
        (self.min..=self.last).contains(&number)
    }
}

/// `None` also for an age that reaches back before the first possible event.
pub(super) fn oldest_visible(metadata: &StreamMetadata, now: Ticks) -> Option<Ticks> {
    let age = metadata.max_age_s?.saturating_mul(Ticks::PER_SECOND);
    now.0.checked_sub(age).map(Ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Ticks = Ticks(100 * Ticks::PER_SECOND);

    fn numbers(is_tombstoned: bool, last: Option<EventNumber>) -> StoredNumbers {
        StoredNumbers { is_tombstoned, last, removed_before: 0 }
    }

    fn visible(metadata: &StreamMetadata) -> VisibleEvents {
        match Visibility::new(numbers(false, Some(29)), metadata, NOW) {
            Visibility::Readable(visible) => visible,
            Visibility::NotFound | Visibility::Deleted => panic!("the stream can be read"),
        }
    }

    #[test]
    fn the_larger_of_two_truncations_counts() {
        let metadata = |max_count, truncate_before| StreamMetadata { max_count, truncate_before, ..Default::default() };
        for (max_count, truncate_before, min) in [
            (None, None, 0),
            (Some(5), None, 25),
            (Some(5), Some(20), 25),
            (Some(5), Some(27), 27),
            (Some(100), None, 0),
            (None, Some(30), 30),
        ] {
            let visible = visible(&metadata(max_count, truncate_before));
            assert_eq!(visible, VisibleEvents { bounds: Bounds { min, last: 29 }, oldest: None });
            assert!(visible.is_ageless());
            assert!(min > 29 || visible.shows(min, Ticks(0)));
            assert!(min == 0 || !visible.shows(min - 1, NOW));
        }
    }

    #[test]
    fn age_hides_events_and_never_numbers() {
        let metadata = |seconds| StreamMetadata { max_age_s: Some(seconds), ..Default::default() };
        let aged = visible(&metadata(40));
        assert_eq!(aged.bounds, Bounds { min: 0, last: 29 });
        assert!(!aged.is_ageless());
        assert!(aged.shows(29, Ticks(60 * Ticks::PER_SECOND)) && !aged.shows(29, Ticks(60 * Ticks::PER_SECOND - 1)));
        for longer_than_time in [101, u64::MAX] {
            assert!(visible(&metadata(longer_than_time)).is_ageless());
        }
        let ageless = Visibility::regardless_of_age(numbers(false, Some(29)), &metadata(40));
        assert!(matches!(ageless, Visibility::Readable(visible) if visible.is_ageless()));
    }

    #[test]
    fn a_hard_deletion_wins_over_a_soft_one_and_over_never_having_existed() {
        let soft = StreamMetadata { truncate_before: Some(MAX_NUMBER), ..Default::default() };
        let of = |is_tombstoned, last, metadata: &StreamMetadata| {
            Visibility::new(numbers(is_tombstoned, last), metadata, NOW)
        };
        assert_eq!(of(false, Some(29), &soft), Visibility::NotFound);
        assert_eq!(of(true, Some(29), &soft), Visibility::Deleted);
        assert_eq!(of(false, None, &StreamMetadata::default()), Visibility::NotFound);
        assert_eq!(of(true, None, &StreamMetadata::default()), Visibility::Deleted);
    }
}
