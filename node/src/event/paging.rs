//! The events on a page of a stream, and the targets of its links (contract/streams 8.1 and 8.2).
//! Pure arithmetic.

use std::ops::RangeInclusive;

use super::visibility::Bounds;
use super::{EventNumber, MAX_NUMBER};

/// The start and the direction of a page. A place is a number on a page of a stream, and a position
/// on a page of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageStart {
    /// Backward from the newest event.
    Head,
    /// Backward from this place, which may not exist yet. On a page of a stream the event with this
    /// number comes first, on a page of the log the event before this position (contract/streams
    /// 10).
    Backward(u64),
    /// Forward from this place: its event comes first.
    Forward(u64),
}

impl PageStart {
    /// The direction of the page.
    pub(crate) fn direction(self) -> Direction {
        match self {
            Self::Head | Self::Backward(_) => Direction::Backward,
            Self::Forward(_) => Direction::Forward,
        }
    }
}

/// The direction of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// To older events.
    Backward,
    /// To newer events.
    Forward,
}

/// Most events on one page (contract/streams 2.5).
pub(crate) const MAX_PAGE_EVENTS: u64 = 4096;

/// How many numbers, or positions, a page spans: 1 to [`MAX_PAGE_EVENTS`]. The page has fewer
/// events if some are not visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PageSize(u64);

impl PageSize {
    /// `None` for 0, and for more than a page may have.
    pub(crate) fn new(count: u64) -> Option<Self> {
        (1..=MAX_PAGE_EVENTS).contains(&count).then_some(Self(count))
    }

    /// The size as a number.
    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

/// The links of a page: the numbers or positions in them, `None` where the page has no such link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PageLinks {
    /// Whether there is a link to the first page ever, `0/forward/{count}`.
    pub(crate) last: bool,
    /// `{next}/backward/{count}`.
    pub(crate) next: Option<u64>,
    /// `{previous}/forward/{count}`.
    pub(crate) previous: Option<u64>,
}

/// The description of a page of a stream, without its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct StreamPageHead {
    /// Its links.
    pub(crate) links: PageLinks,
    /// The page size in its links.
    pub(crate) count: u64,
    /// Its direction.
    pub(crate) direction: Direction,
    /// Whether it reaches the newest event.
    pub(crate) is_head_of_stream: bool,
    /// Number of the stream's last event, only on the head page.
    pub(crate) version: Option<EventNumber>,
}

/// A page of a stream as requested, before its events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamPage {
    bounds: Bounds,
    start: PageStart,
    count: u64,
}

impl StreamPage {
    /// The page of a stream whose visible numbers are given by `bounds`.
    pub(crate) fn new(bounds: Bounds, start: PageStart, size: PageSize) -> Self {
        Self { bounds, start, count: size.get() }
    }

    /// The largest number that the page would have if it existed.
    fn highest(&self) -> EventNumber {
        match self.start {
            PageStart::Head => self.bounds.last,
            PageStart::Backward(number) => number,
            PageStart::Forward(number) => number.saturating_add(self.count - 1),
        }
    }

    /// The smallest number that the page would have if nothing were truncated.
    fn lowest(&self) -> EventNumber {
        match self.start {
            PageStart::Head | PageStart::Backward(_) => (self.highest() + 1).saturating_sub(self.count),
            PageStart::Forward(number) => number,
        }
    }

    /// The numbers to read; `None` when the page certainly has no events.
    pub(crate) fn numbers(&self) -> Option<RangeInclusive<EventNumber>> {
        let first = self.lowest().max(self.bounds.min);
        let last = self.highest().min(self.bounds.last);
        (first <= last).then_some(first..=last)
    }

    /// Whether a backward page ends at the oldest visible event; `lowest_visible` is the smallest
    /// number among its visible events.
    fn reaches_the_end(&self, lowest_visible: Option<EventNumber>) -> bool {
        let lowest = self.lowest();
        let begins_with_others = lowest <= self.bounds.last && lowest_visible != Some(lowest);
        self.highest() < self.bounds.min || lowest <= self.bounds.min || begins_with_others
    }

    /// Whether a forward page reaches the newest event.
    fn reaches_the_head(&self) -> bool {
        self.highest() >= self.bounds.min && self.highest() >= self.bounds.last
    }

    /// Whether the page presents itself as the head of the stream.
    fn is_head_of_stream(&self) -> bool {
        match self.start {
            PageStart::Head => true,
            PageStart::Backward(_) => false,
            PageStart::Forward(_) => self.reaches_the_head(),
        }
    }

    /// The links of the page, given the smallest number among its visible events.
    pub(crate) fn links(&self, lowest_visible: Option<EventNumber>) -> PageLinks {
        let behind = self.highest().min(self.bounds.last) + 1;
        match self.start {
            PageStart::Forward(first) => PageLinks {
                last: first >= 1,
                next: first.checked_sub(1),
                previous: (!self.reaches_the_head() || lowest_visible.is_some()).then_some(behind),
            },
            PageStart::Head | PageStart::Backward(_) => {
                let has_ended = self.reaches_the_end(lowest_visible);
                // A head page of a completely truncated stream reports -1 as its position, so the
                // link leads to 0.
                let is_empty_head = self.start == PageStart::Head && self.highest() < self.bounds.min;
                PageLinks {
                    last: !has_ended,
                    next: (!has_ended).then(|| self.highest().saturating_sub(self.count)),
                    previous: Some(if is_empty_head { 0 } else { behind }),
                }
            }
        }
    }

    /// The description of the page, given the smallest number among its visible events.
    pub(crate) fn head(&self, lowest_visible: Option<EventNumber>) -> StreamPageHead {
        StreamPageHead {
            links: self.links(lowest_visible),
            count: self.count,
            direction: self.start.direction(),
            is_head_of_stream: self.is_head_of_stream(),
            version: (self.start == PageStart::Head).then_some(self.bounds.last),
        }
    }

    /// Whether every number of this page is taken, so that the page never changes (contract/streams
    /// 8.7).
    pub(crate) fn is_immutable(&self) -> bool {
        self.start != PageStart::Head && self.highest() <= self.bounds.last
    }
}

const _: () = assert!(MAX_NUMBER < u64::MAX - 1_000_000, "numbers leave room for page arithmetic");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::PageStart::{Backward, Forward, Head};
    use super::*;
    use crate::event::StreamMetadata;

    const LAST_25: Bounds = Bounds { min: 0, last: 24 };

    fn links(last: bool, next: Option<u64>, previous: Option<u64>) -> PageLinks {
        PageLinks { last, next, previous }
    }

    fn size(count: u64) -> PageSize {
        PageSize::new(count).unwrap()
    }

    fn page(bounds: Bounds, start: PageStart, count: u64) -> (Option<RangeInclusive<u64>>, PageLinks) {
        let page = StreamPage::new(bounds, start, size(count));
        let numbers = page.numbers();
        let lowest = numbers.as_ref().map(|range| *range.start());
        (numbers, page.links(lowest))
    }

    fn backward(bounds: Bounds, number: u64, count: u64) -> (Option<RangeInclusive<u64>>, PageLinks) {
        page(bounds, Backward(number), count)
    }

    fn forward(bounds: Bounds, number: u64, count: u64) -> (Option<RangeInclusive<u64>>, PageLinks) {
        page(bounds, Forward(number), count)
    }

    #[test]
    fn the_worked_examples_of_25_events() {
        assert_eq!(page(LAST_25, Head, 20), (Some(5..=24), links(true, Some(4), Some(25))));
        assert_eq!(backward(LAST_25, 4, 20), (Some(0..=4), links(false, None, Some(5))));
        assert_eq!(backward(LAST_25, 19, 20), (Some(0..=19), links(false, None, Some(20))));
        assert_eq!(backward(LAST_25, 20, 20), (Some(1..=20), links(true, Some(0), Some(21))));
        assert_eq!(backward(LAST_25, 100, 20), (None, links(true, Some(80), Some(25))));
        assert_eq!(forward(LAST_25, 0, 20), (Some(0..=19), links(false, None, Some(20))));
        assert_eq!(forward(LAST_25, 25, 20), (None, links(true, Some(24), None)));
        assert_eq!(forward(LAST_25, 5, 20), (Some(5..=24), links(true, Some(4), Some(25))));
        assert!(StreamPage::new(LAST_25, Forward(5), size(20)).reaches_the_head());
    }

    #[test]
    fn the_worked_examples_of_truncated_streams() {
        let five_left = Bounds::new(29, 0, &StreamMetadata { max_count: Some(5), ..StreamMetadata::default() });
        assert_eq!(five_left.min, 25);
        assert_eq!(page(five_left, Head, 20), (Some(25..=29), links(false, None, Some(30))));
        assert_eq!(forward(five_left, 0, 10), (None, links(false, None, Some(10))));
        assert!(!StreamPage::new(five_left, Forward(0), size(10)).reaches_the_head());
        assert_eq!(backward(five_left, 24, 10), (None, links(false, None, Some(25))));
        let none_left = Bounds::new(29, 0, &StreamMetadata { truncate_before: Some(30), ..StreamMetadata::default() });
        assert_eq!(page(none_left, Head, 20), (None, links(false, None, Some(0))));
    }

    #[test]
    fn a_page_whose_oldest_events_are_gone_ends_the_stream() {
        let page = StreamPage::new(LAST_25, Head, size(10));
        assert!(!page.reaches_the_end(Some(15)));
        assert!(page.reaches_the_end(Some(20)));
        assert!(page.reaches_the_end(None));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let (numbers, found) = forward(LAST_25, MAX_NUMBER, 4096);
        assert_eq!((numbers, found), (None, links(true, Some(MAX_NUMBER - 1), None)));
        assert_eq!(backward(LAST_25, MAX_NUMBER, 4096).1.previous, Some(25));
    }

    #[test]
    fn pages_below_the_head_are_immutable() {
        assert!(StreamPage::new(LAST_25, Backward(24), size(20)).is_immutable());
        assert!(!StreamPage::new(LAST_25, Backward(25), size(20)).is_immutable());
        assert!(!StreamPage::new(LAST_25, Head, size(20)).is_immutable());
        assert!(StreamPage::new(LAST_25, Forward(5), size(20)).is_immutable());
        assert!(!StreamPage::new(LAST_25, Forward(6), size(20)).is_immutable());
    }

    /// A stream as readers see it: events below `young_from` are older than `$maxAge`.
    #[derive(Debug)]
    struct Stream {
        last: EventNumber,
        metadata: StreamMetadata,
        young_from: EventNumber,
    }

    impl Stream {
        fn bounds(&self) -> Bounds {
            Bounds::new(self.last, 0, &self.metadata)
        }

        fn visible(&self) -> BTreeSet<EventNumber> {
            (self.bounds().min.max(self.young_from)..=self.last).collect()
        }

        /// Visible events of a page, newest first.
        fn read(&self, numbers: Option<RangeInclusive<EventNumber>>) -> Vec<EventNumber> {
            numbers.into_iter().flatten().rev().filter(|number| *number >= self.young_from).collect()
        }
    }

    /// Numbers met by following `next` from `first`, with `appends` between the pages.
    fn walk_back(stream: &mut Stream, count: u64, appends: &[u64]) -> Vec<EventNumber> {
        let (mut met, mut from, mut appends) = (Vec::new(), Some(Head), appends.iter());
        while let Some(at) = from {
            let page = StreamPage::new(stream.bounds(), at, size(count));
            let entries = stream.read(page.numbers());
            from = page.links(entries.last().copied()).next.map(Backward);
            met.extend(entries);
            stream.last += appends.next().copied().unwrap_or(0);
        }
        met
    }

    /// Numbers met by following `previous` from `last`, until a page leads no further.
    fn walk_forward(stream: &mut Stream, count: u64, appends: &[u64]) -> Vec<EventNumber> {
        let (mut met, mut from, mut appends) = (Vec::new(), 0, appends.iter());
        loop {
            let page = StreamPage::new(stream.bounds(), Forward(from), size(count));
            let entries = stream.read(page.numbers());
            let previous = page.links(entries.last().copied()).previous;
            met.extend(entries.iter().rev());
            let appended = appends.next();
            stream.last += appended.copied().unwrap_or(0);
            match (previous, appended) {
                (Some(number), _) if number > from => from = number,
                // No new events, or everything truncated up to the end.
                (_, None) => return met,
                _ => {}
            }
        }
    }

    fn any_stream() -> impl Strategy<Value = Stream> {
        use proptest::option::of;
        (0..60u64, of(1..40u64), of(0..90u64), 0..60u64).prop_map(|(last, max_count, truncate_before, young_from)| {
            let metadata = StreamMetadata { max_count, truncate_before, ..StreamMetadata::default() };
            Stream { last, metadata, young_from }
        })
    }

    proptest! {
        #[test]
        fn following_next_from_first_meets_every_visible_event_once(
            mut stream in any_stream(), count in 1..25u64, appends in vec(0..4u64, 0..30),
        ) {
            let (before, end) = (stream.visible(), stream.last);
            let met = walk_back(&mut stream, count, &appends);
            prop_assert!(met.windows(2).all(|pair| pair[0] > pair[1]), "{met:?}");
            let met: BTreeSet<_> = met.into_iter().collect();
            // Events that are truncated meanwhile may be met or not.
            let still: BTreeSet<_> = before.intersection(&stream.visible()).copied().collect();
            prop_assert!(still.is_subset(&met) && met.is_subset(&before), "{met:?} of {before:?} up to {end}");
        }

        #[test]
        fn following_previous_from_last_meets_every_visible_event_once(
            mut stream in any_stream(), count in 1..25u64, appends in vec(0..4u64, 0..30),
        ) {
            let mut ever = stream.visible();
            let (last, total) = (stream.last, appends.iter().sum::<u64>());
            let met = walk_forward(&mut stream, count, &appends);
            prop_assert!(met.windows(2).all(|pair| pair[0] < pair[1]), "{met:?}");
            let met: BTreeSet<_> = met.into_iter().collect();
            ever.extend(last + 1..=last + total);
            prop_assert_eq!(stream.last, last + total);
            prop_assert!(stream.visible().is_subset(&met) && met.is_subset(&ever), "{met:?} of {:?}", stream.visible());
        }
    }
}
