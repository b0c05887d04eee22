//! Which events a page of a stream has and where its links lead (contract/streams 8.1 and 8.2). Pure arithmetic.

use std::ops::RangeInclusive;

use super::visibility::Bounds;
use super::{EventNumber, MAX_NUMBER};

/// Where a backward page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the last event, whatever its number.
    Head,
    /// At this number, which may not exist yet.
    Number(EventNumber),
}

/// What a page leads to: the numbers in its links, `None` where the page has no such link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageLinks {
    /// Whether there is a link to the first page of the stream, `0/forward/{count}`.
    pub last: bool,
    /// `{next}/backward/{count}`.
    pub next: Option<EventNumber>,
    /// `{previous}/forward/{count}`.
    pub previous: Option<EventNumber>,
}

/// A backward page as asked for, before its events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackwardPage {
    bounds: Bounds,
    from: From,
    count: u64,
}

impl BackwardPage {
    /// `count` is at least 1.
    pub fn new(bounds: Bounds, from: From, count: u64) -> Self {
        Self { bounds, from, count }
    }

    fn end(&self) -> EventNumber {
        match self.from {
            From::Head => self.bounds.last,
            From::Number(number) => number,
        }
    }

    /// First number the page would have if nothing were truncated.
    fn start(&self) -> EventNumber {
        (self.end() + 1).saturating_sub(self.count)
    }

    /// The numbers to read, `None` when the page has no events for sure.
    pub fn numbers(&self) -> Option<RangeInclusive<EventNumber>> {
        let start = self.start().max(self.bounds.min);
        let end = self.end().min(self.bounds.last);
        (start <= end).then_some(start..=end)
    }

    /// Whether the page ends at the oldest visible event; `lowest` is the smallest number among its visible events.
    pub fn reaches_the_end(&self, lowest: Option<EventNumber>) -> bool {
        let start = self.start();
        self.end() < self.bounds.min || start <= self.bounds.min || start <= self.bounds.last && lowest != Some(start)
    }

    /// The links of the page, given the smallest number among its visible events.
    pub fn links(&self, lowest: Option<EventNumber>) -> PageLinks {
        let ended = self.reaches_the_end(lowest);
        // A head page of a wholly truncated stream reports -1 as its position, so the link leads to 0.
        let previous = match self.from {
            From::Head if self.end() < self.bounds.min => 0,
            _ => self.end().min(self.bounds.last) + 1,
        };
        PageLinks {
            last: !ended,
            next: (!ended).then(|| self.end().saturating_sub(self.count)),
            previous: Some(previous),
        }
    }

    /// Whether everything on this page exists already, so that it never changes (contract/streams 8.7).
    pub fn is_immutable(&self) -> bool {
        matches!(self.from, From::Number(number) if number <= self.bounds.last)
    }
}

/// A forward page as asked for, before its events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardPage {
    bounds: Bounds,
    from: EventNumber,
    count: u64,
}

impl ForwardPage {
    /// `count` is at least 1.
    pub fn new(bounds: Bounds, from: EventNumber, count: u64) -> Self {
        Self { bounds, from, count }
    }

    fn end(&self) -> EventNumber {
        self.from.saturating_add(self.count - 1)
    }

    /// The numbers to read, `None` when the page has no events for sure.
    pub fn numbers(&self) -> Option<RangeInclusive<EventNumber>> {
        let start = self.from.max(self.bounds.min);
        let end = self.end().min(self.bounds.last);
        (start <= end).then_some(start..=end)
    }

    /// Whether the page reaches the newest event.
    pub fn reaches_the_head(&self) -> bool {
        self.end() >= self.bounds.min && self.end() >= self.bounds.last
    }

    /// The links of the page.
    pub fn links(&self, has_events: bool) -> PageLinks {
        let previous = self.end().min(self.bounds.last) + 1;
        PageLinks {
            last: self.from >= 1,
            next: self.from.checked_sub(1),
            previous: (!self.reaches_the_head() || has_events).then_some(previous),
        }
    }

    /// Whether every number of this page is taken already, so that it never changes (contract/streams 8.7).
    pub fn is_immutable(&self) -> bool {
        self.end() <= self.bounds.last
    }

    /// Whether the page begins beyond the last event: a long poll waits then (contract/streams 8.8).
    pub fn is_beyond_the_head(from: EventNumber, last: Option<EventNumber>) -> bool {
        last.is_none_or(|last| from > last)
    }
}

const _: () = assert!(MAX_NUMBER < u64::MAX - 1_000_000, "numbers leave room for page arithmetic");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::event::StreamMetadata;

    const LAST_25: Bounds = Bounds { min: 0, last: 24 };

    fn links(last: bool, next: Option<u64>, previous: Option<u64>) -> PageLinks {
        PageLinks { last, next, previous }
    }

    fn backward(bounds: Bounds, from: From, count: u64) -> (Option<RangeInclusive<u64>>, PageLinks) {
        let page = BackwardPage::new(bounds, from, count);
        let numbers = page.numbers();
        let lowest = numbers.as_ref().map(|range| *range.start());
        (numbers, page.links(lowest))
    }

    fn forward(bounds: Bounds, from: u64, count: u64) -> (Option<RangeInclusive<u64>>, PageLinks) {
        let page = ForwardPage::new(bounds, from, count);
        let numbers = page.numbers();
        let has_events = numbers.is_some();
        (numbers, page.links(has_events))
    }

    #[test]
    fn the_worked_examples_of_25_events() {
        assert_eq!(backward(LAST_25, From::Head, 20), (Some(5..=24), links(true, Some(4), Some(25))));
        assert_eq!(backward(LAST_25, From::Number(4), 20), (Some(0..=4), links(false, None, Some(5))));
        assert_eq!(backward(LAST_25, From::Number(19), 20), (Some(0..=19), links(false, None, Some(20))));
        assert_eq!(backward(LAST_25, From::Number(20), 20), (Some(1..=20), links(true, Some(0), Some(21))));
        assert_eq!(backward(LAST_25, From::Number(100), 20), (None, links(true, Some(80), Some(25))));
        assert_eq!(forward(LAST_25, 0, 20), (Some(0..=19), links(false, None, Some(20))));
        assert_eq!(forward(LAST_25, 25, 20), (None, links(true, Some(24), None)));
        assert_eq!(forward(LAST_25, 5, 20), (Some(5..=24), links(true, Some(4), Some(25))));
        assert!(ForwardPage::new(LAST_25, 5, 20).reaches_the_head());
    }

    #[test]
    fn the_worked_examples_of_truncated_streams() {
        let five_left = Bounds::new(29, &StreamMetadata { max_count: Some(5), ..StreamMetadata::default() });
        assert_eq!(five_left.min, 25);
        assert_eq!(backward(five_left, From::Head, 20), (Some(25..=29), links(false, None, Some(30))));
        assert_eq!(forward(five_left, 0, 10), (None, links(false, None, Some(10))));
        assert!(!ForwardPage::new(five_left, 0, 10).reaches_the_head());
        assert_eq!(backward(five_left, From::Number(24), 10), (None, links(false, None, Some(25))));
        let none_left = Bounds::new(29, &StreamMetadata { truncate_before: Some(30), ..StreamMetadata::default() });
        assert_eq!(backward(none_left, From::Head, 20), (None, links(false, None, Some(0))));
    }

    #[test]
    fn a_page_whose_oldest_events_are_gone_ends_the_stream() {
        let page = BackwardPage::new(LAST_25, From::Head, 10);
        assert!(!page.reaches_the_end(Some(15)));
        assert!(page.reaches_the_end(Some(20)));
        assert!(page.reaches_the_end(None));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let (numbers, found) = forward(LAST_25, MAX_NUMBER, 4096);
        assert_eq!((numbers, found), (None, links(true, Some(MAX_NUMBER - 1), None)));
        assert_eq!(backward(LAST_25, From::Number(MAX_NUMBER), 4096).1.previous, Some(25));
    }

    #[test]
    fn pages_below_the_head_are_immutable() {
        assert!(BackwardPage::new(LAST_25, From::Number(24), 20).is_immutable());
        assert!(!BackwardPage::new(LAST_25, From::Number(25), 20).is_immutable());
        assert!(!BackwardPage::new(LAST_25, From::Head, 20).is_immutable());
        assert!(ForwardPage::new(LAST_25, 5, 20).is_immutable());
        assert!(!ForwardPage::new(LAST_25, 6, 20).is_immutable());
    }

    /// A stream as its readers see it: events below `young_from` are older than `$maxAge`.
    #[derive(Debug)]
    struct Stream {
        last: EventNumber,
        metadata: StreamMetadata,
        young_from: EventNumber,
    }

    impl Stream {
        fn bounds(&self) -> Bounds {
            Bounds::new(self.last, &self.metadata)
        }

        fn visible(&self) -> BTreeSet<EventNumber> {
            (self.bounds().min.max(self.young_from)..=self.last).collect()
        }

        /// Visible events of a page, newest first.
        fn read(&self, numbers: Option<RangeInclusive<EventNumber>>) -> Vec<EventNumber> {
            numbers.into_iter().flatten().rev().filter(|number| *number >= self.young_from).collect()
        }
    }

    /// Numbers met by following `next` from `first`; `appends` come between the pages.
    fn walk_back(stream: &mut Stream, count: u64, appends: &[u64]) -> Vec<EventNumber> {
        let (mut met, mut from, mut appends) = (Vec::new(), Some(From::Head), appends.iter());
        while let Some(at) = from {
            let page = BackwardPage::new(stream.bounds(), at, count);
            let entries = stream.read(page.numbers());
            from = page.links(entries.last().copied()).next.map(From::Number);
            met.extend(entries);
            stream.last += appends.next().copied().unwrap_or(0);
        }
        met
    }

    /// Numbers met by following `previous` from `last`, until a page leads nowhere else.
    fn walk_forward(stream: &mut Stream, count: u64, appends: &[u64]) -> Vec<EventNumber> {
        let (mut met, mut from, mut appends) = (Vec::new(), 0, appends.iter());
        loop {
            let page = ForwardPage::new(stream.bounds(), from, count);
            let entries = stream.read(page.numbers());
            let previous = page.links(!entries.is_empty()).previous;
            met.extend(entries.iter().rev());
            let appended = appends.next();
            stream.last += appended.copied().unwrap_or(0);
            match (previous, appended) {
                (Some(number), _) if number > from => from = number,
                // Nothing new, or everything truncated beyond the end.
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
            // What an append truncates meanwhile may be met or not.
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
