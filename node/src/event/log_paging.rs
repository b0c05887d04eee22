//! The positions on a page of the log of all events, and the targets of its links (contract/streams
//! 10). Pure arithmetic.

use std::ops::Range;

use super::Position;
use super::paging::{Direction, PageLinks, PageSize, PageStart};

/// Where a walk of the log begins, given the position of the next event.
pub(crate) fn first_position(start: PageStart, next_position: Position) -> Position {
    match start {
        PageStart::Head => next_position,
        PageStart::Backward(position) => position.min(next_position),
        PageStart::Forward(position) => position,
    }
}

/// A page of the log, or of its filtered events, without the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogPage {
    /// Its start.
    pub(crate) start: PageStart,
    /// How many events were requested.
    pub(crate) count: u64,
    /// How far it goes, if it goes anywhere: the smallest position of a backward page, the position
    /// after a forward page.
    pub(crate) reached: Option<Position>,
    /// Whether there are more events after it.
    pub(crate) is_full: bool,
    /// Position of the next event of the log.
    pub(crate) next_position: Position,
}

impl LogPage {
    /// The page with all events at these positions, so many of them. Positions of events that were
    /// removed are no part of the page, unless nothing but them is behind its last event.
    pub(crate) fn of_all(
        start: PageStart,
        size: PageSize,
        next_position: Position,
        positions: &Range<Position>,
        events: u64,
    ) -> Self {
        let count = size.get();
        let end = match start.direction() {
            Direction::Backward => positions.start,
            Direction::Forward => positions.end,
        };
        Self { start, count, reached: (!positions.is_empty()).then_some(end), is_full: events >= count, next_position }
    }

    /// The page with this many events, found on a walk over everything from the start of the page
    /// to `reached`.
    pub(crate) fn of_found(
        start: PageStart,
        size: PageSize,
        next_position: Position,
        reached: Position,
        found: usize,
    ) -> Self {
        let count = size.get();
        let is_full = match start.direction() {
            Direction::Backward => reached > 0,
            Direction::Forward => reached < next_position || found as u64 == count,
        };
        let reached = (start != PageStart::Forward(reached)).then_some(reached);
        Self { start, count, reached, is_full, next_position }
    }

    /// The links of the page.
    pub(crate) fn links(&self) -> PageLinks {
        let older = self.reached.filter(|_| self.is_full);
        match self.start {
            PageStart::Head => PageLinks { last: self.is_full, next: older, previous: Some(self.next_position) },
            PageStart::Backward(position) => {
                PageLinks { last: self.is_full, next: older, previous: Some(position.min(self.next_position)) }
            }
            PageStart::Forward(position) => {
                PageLinks { last: position != 0, next: (position != 0).then_some(position), previous: self.reached }
            }
        }
    }

    /// Whether every position of this page is taken, so that the page never changes.
    pub(crate) fn is_immutable(&self) -> bool {
        match self.start {
            PageStart::Head => false,
            // After the last event, the page begins where the log still grows.
            PageStart::Backward(position) => position < self.next_position,
            PageStart::Forward(_) => self.is_full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(count: u64) -> PageSize {
        PageSize::new(count).unwrap()
    }

    /// The positions of a page of a log without holes.
    fn positions(start: PageStart, count: u64, next_position: Position) -> Range<Position> {
        let first = first_position(start, next_position).min(next_position);
        match start.direction() {
            Direction::Backward => first.saturating_sub(count)..first,
            Direction::Forward => first..first.saturating_add(count).min(next_position),
        }
    }

    fn page(start: PageStart, next_position: Position) -> (Range<Position>, PageLinks, bool) {
        let positions = positions(start, 20, next_position);
        let page = LogPage::of_all(start, size(20), next_position, &positions, positions.end - positions.start);
        (positions, page.links(), page.is_immutable())
    }

    fn links(last: bool, next: Option<u64>, previous: Option<u64>) -> PageLinks {
        PageLinks { last, next, previous }
    }

    #[test]
    fn pages_of_a_log_of_25_events() {
        assert_eq!(page(PageStart::Head, 25), (5..25, links(true, Some(5), Some(25)), false));
        assert_eq!(page(PageStart::Backward(5), 25), (0..5, links(false, None, Some(5)), true));
        assert_eq!(page(PageStart::Backward(100), 25), (5..25, links(true, Some(5), Some(25)), false));
        assert_eq!(page(PageStart::Forward(0), 25), (0..20, links(false, None, Some(20)), true));
        assert_eq!(page(PageStart::Forward(20), 25), (20..25, links(true, Some(20), Some(25)), false));
        assert_eq!(page(PageStart::Forward(25), 25), (25..25, links(true, Some(25), None), false));
        assert_eq!(page(PageStart::Forward(100), 25), (25..25, links(true, Some(100), None), false));
    }

    #[test]
    fn pages_of_an_empty_log() {
        assert_eq!(page(PageStart::Head, 0), (0..0, links(false, None, Some(0)), false));
        assert_eq!(page(PageStart::Forward(0), 0), (0..0, links(false, None, None), false));
    }

    #[test]
    fn pages_of_what_is_found_lead_on_from_where_the_walk_stopped() {
        let page = |start, reached, found| LogPage::of_found(start, size(20), 100, reached, found);
        let stopped = page(PageStart::Head, 60, 3);
        assert_eq!((stopped.links(), stopped.is_immutable()), (links(true, Some(60), Some(100)), false));
        let at_the_beginning = page(PageStart::Backward(60), 0, 3);
        assert_eq!(at_the_beginning.links(), links(false, None, Some(60)));
        assert!(at_the_beginning.is_immutable());
        let stopped = page(PageStart::Forward(10), 70, 3);
        assert_eq!((stopped.links(), stopped.is_immutable()), (links(true, Some(10), Some(70)), true));
        let at_the_end = page(PageStart::Forward(10), 100, 3);
        assert_eq!((at_the_end.links(), at_the_end.is_immutable()), (links(true, Some(10), Some(100)), false));
        let full_at_the_end = page(PageStart::Forward(10), 100, 20);
        assert!(full_at_the_end.is_immutable());
        let behind_the_end = page(PageStart::Forward(100), 100, 0);
        assert_eq!(behind_the_end.links(), links(true, Some(100), None));
    }

    proptest::proptest! {
        #[test]
        fn following_next_from_first_meets_every_position_once(next_position in 0..200u64, count in 1..50u64) {
            let (mut met, mut start) = (Vec::new(), Some(PageStart::Head));
            while let Some(at) = start {
                let positions = positions(at, count, next_position);
                met.extend(positions.clone().rev());
                let page = LogPage::of_all(at, size(count), next_position, &positions, positions.end - positions.start);
                start = page.links().next.map(PageStart::Backward);
            }
            proptest::prop_assert_eq!(met, (0..next_position).rev().collect::<Vec<_>>());
        }

        #[test]
        fn following_previous_from_last_meets_every_position_once(next_position in 0..200u64, count in 1..50u64) {
            let (mut met, mut start) = (Vec::new(), Some(PageStart::Forward(0)));
            while let Some(at) = start {
                let positions = positions(at, count, next_position);
                met.extend(positions.clone());
                let page = LogPage::of_all(at, size(count), next_position, &positions, positions.end - positions.start);
                start = page.links().previous.map(PageStart::Forward);
            }
            proptest::prop_assert_eq!(met, (0..next_position).collect::<Vec<_>>());
        }
    }
}
