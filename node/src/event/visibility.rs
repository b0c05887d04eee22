//! Which events of a stream its readers may see: deletion, `$tb`, `$maxCount` and `$maxAge`, judged
//! here and nowhere else (contract/streams 7, 8.1 and 12.4).

use super::{EventNumber, StreamMetadata, Ticks};

/// What readers may see of a stream at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// The stream can be read, although perhaps no event of it is visible.
    Readable(VisibleEvents),
    /// The stream never had an event, or it is soft-deleted.
    NotFound,
    /// The stream is hard-deleted.
    Deleted,
}

impl Visibility {
    /// Of a stream with this last event, if it ever had one, and this metadata. With `now` at zero
    /// no event is too old.
    pub fn new(is_tombstoned: bool, last: Option<EventNumber>, metadata: &StreamMetadata, now: Ticks) -> Self {
        match last {
            _ if is_tombstoned => Self::Deleted,
            Some(last) if !metadata.is_soft_deleted() => Self::Readable(VisibleEvents {
                bounds: Bounds::new(last, metadata),
                oldest: oldest_visible(metadata, now),
            }),
            _ => Self::NotFound,
        }
    }
}

/// The events of a stream that readers may see at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisibleEvents {
    /// Their numbers.
    pub bounds: Bounds,
    /// The time of the oldest event that `$maxAge` leaves visible; zero where age does not count.
    pub oldest: Ticks,
}

/// The numbers of a stream that readers may see, before the age of events is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest visible number; may be above `last` when everything is truncated.
    pub min: EventNumber,
    /// Number of the last event ever committed.
    pub last: EventNumber,
}

impl Bounds {
    /// Applies `$maxCount` and `$tb` to a stream whose last event is `last`.
    pub fn new(last: EventNumber, metadata: &StreamMetadata) -> Self {
        let by_count = metadata.max_count.map_or(0, |count| (last + 1).saturating_sub(count));
        Self { min: by_count.max(metadata.truncate_before.unwrap_or(0)), last }
    }

    /// Whether a reader may see this number, if the event is stored and young enough.
    pub fn contains(&self, number: EventNumber) -> bool {
        (self.min..=self.last).contains(&number)
    }
}

fn oldest_visible(metadata: &StreamMetadata, now: Ticks) -> Ticks {
    let age = |seconds: u64| seconds.saturating_mul(Ticks::PER_SECOND);
    metadata.max_age_s.map_or(Ticks(0), |seconds| Ticks(now.0.saturating_sub(age(seconds))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MAX_NUMBER;

    const NOW: Ticks = Ticks(100 * Ticks::PER_SECOND);

    fn visible(metadata: StreamMetadata) -> Option<(EventNumber, EventNumber, Ticks)> {
        match Visibility::new(false, Some(29), &metadata, NOW) {
            Visibility::Readable(VisibleEvents { bounds, oldest }) => Some((bounds.min, bounds.last, oldest)),
            Visibility::NotFound | Visibility::Deleted => None,
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
            assert_eq!(visible(metadata(max_count, truncate_before)), Some((min, 29, Ticks(0))));
        }
    }

    #[test]
    fn age_hides_events_and_never_numbers() {
        let metadata = |seconds| StreamMetadata { max_age_s: Some(seconds), ..Default::default() };
        assert_eq!(visible(metadata(40)), Some((0, 29, Ticks(60 * Ticks::PER_SECOND))));
        assert_eq!(visible(metadata(101)), Some((0, 29, Ticks(0))));
        assert_eq!(visible(metadata(u64::MAX)), Some((0, 29, Ticks(0))));
        let ageless = Visibility::new(false, Some(29), &metadata(40), Ticks(0));
        assert!(matches!(ageless, Visibility::Readable(VisibleEvents { oldest: Ticks(0), .. })));
    }

    #[test]
    fn a_hard_deletion_wins_over_a_soft_one_and_over_never_having_existed() {
        let soft = StreamMetadata { truncate_before: Some(MAX_NUMBER), ..Default::default() };
        let of = |is_tombstoned, last, metadata: &StreamMetadata| Visibility::new(is_tombstoned, last, metadata, NOW);
        assert_eq!(of(false, Some(29), &soft), Visibility::NotFound);
        assert_eq!(of(true, Some(29), &soft), Visibility::Deleted);
        assert_eq!(of(false, None, &StreamMetadata::default()), Visibility::NotFound);
        assert_eq!(of(true, None, &StreamMetadata::default()), Visibility::Deleted);
    }
}
