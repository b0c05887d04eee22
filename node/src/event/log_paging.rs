//! Which positions a page of the log of all events has and where its links lead (contract/streams
//! 10). Pure arithmetic.

use std::ops::Range;

use super::Position;
use super::paging::{Direction, PageLinks, PageSize};

/// Where a page of the log begins, and which way it goes from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStart {
    /// Backward from the newest event.
    Head,
    /// Backward: the events before this position.
    Before(Position),
    /// Forward: the event at this position first.
    From(Position),
}

impl LogStart {
    /// Which way the page goes.
    pub fn direction(self) -> Direction {
        match self {
            Self::Head | Self::Before(_) => Direction::Backward,
            Self::From(_) => Direction::Forward,
        }
    }

    /// Where a walk begins, given the position of the next event of the log.
    pub fn position(self, next_position: Position) -> Position {
        match self {
            Self::Head => next_position,
            Self::Before(position) => position.min(next_position),
            Self::From(position) => position,
        }
    }

    /// The positions of a page. They are dense: no event is missing between two others.
    pub fn positions(self, size: PageSize, next_position: Position) -> Range<Position> {
        let count = size.get();
        match self {
            Self::Head => next_position.saturating_sub(count)..next_position,
            Self::Before(position) => {
                let end = position.min(next_position);
                end.saturating_sub(count)..end
            }
            Self::From(position) => {
                let start = position.min(next_position);
                start..start.saturating_add(count).min(next_position)
            }
        }
    }
}

/// A page of the log, or of what a filter leaves of it, without its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPage {
    /// Where it begins.
    pub start: LogStart,
    /// How many events were asked for.
    pub count: u64,
    /// How far it goes, if it goes anywhere: the smallest position of a backward page, the one
    /// behind a forward page.
    pub reached: Option<Position>,
    /// Whether there is more behind it.
    pub is_full: bool,
    /// Position of the next event of the log.
    pub next_position: Position,
}

impl LogPage {
    /// The page that has all events at these positions.
    pub fn of_all(start: LogStart, size: PageSize, next_position: Position, positions: &Range<Position>) -> Self {
        let count = size.get();
        let end = match start.direction() {
            Direction::Backward => positions.start,
            Direction::Forward => positions.end,
        };
        Self {
            start,
            count,
            reached: (!positions.is_empty()).then_some(end),
            is_full: positions.end - positions.start >= count,
            next_position,
        }
    }

    /// Where it leads.
    pub fn links(&self) -> PageLinks {
        let older = self.reached.filter(|_| self.is_full);
        match self.start {
            LogStart::Head => PageLinks { last: self.is_full, next: older, previous: Some(self.next_position) },
            LogStart::Before(position) => {
                PageLinks { last: self.is_full, next: older, previous: Some(position.min(self.next_position)) }
            }
            LogStart::From(position) => {
                PageLinks { last: position != 0, next: (position != 0).then_some(position), previous: self.reached }
            }
        }
    }

    /// Whether every position of this page is taken already, so that it never changes.
    pub fn is_immutable(&self) -> bool {
        match self.start {
            LogStart::Head => false,
            // Behind the last event it begins where the log still grows.
            LogStart::Before(position) => position < self.next_position,
            LogStart::From(_) => self.is_full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(count: u64) -> PageSize {
        PageSize::new(count).unwrap()
    }

    fn page(start: LogStart, next_position: Position) -> (Range<Position>, PageLinks, bool) {
        let positions = start.positions(size(20), next_position);
        let page = LogPage::of_all(start, size(20), next_position, &positions);
        (positions, page.links(), page.is_immutable())
    }

    fn links(last: bool, next: Option<u64>, previous: Option<u64>) -> PageLinks {
        PageLinks { last, next, previous }
    }

    #[test]
    fn pages_of_a_log_of_25_events() {
        assert_eq!(page(LogStart::Head, 25), (5..25, links(true, Some(5), Some(25)), false));
        assert_eq!(page(LogStart::Before(5), 25), (0..5, links(false, None, Some(5)), true));
        assert_eq!(page(LogStart::Before(100), 25), (5..25, links(true, Some(5), Some(25)), false));
        assert_eq!(page(LogStart::From(0), 25), (0..20, links(false, None, Some(20)), true));
        assert_eq!(page(LogStart::From(20), 25), (20..25, links(true, Some(20), Some(25)), false));
        assert_eq!(page(LogStart::From(25), 25), (25..25, links(true, Some(25), None), false));
        assert_eq!(page(LogStart::From(100), 25), (25..25, links(true, Some(100), None), false));
    }

    #[test]
    fn pages_of_an_empty_log() {
        assert_eq!(page(LogStart::Head, 0), (0..0, links(false, None, Some(0)), false));
        assert_eq!(page(LogStart::From(0), 0), (0..0, links(false, None, None), false));
    }

    proptest::proptest! {
        #[test]
        fn following_next_from_first_meets_every_position_once(next_position in 0..200u64, count in 1..50u64) {
            let (mut met, mut start) = (Vec::new(), Some(LogStart::Head));
            while let Some(at) = start {
                let positions = at.positions(size(count), next_position);
                met.extend(positions.clone().rev());
                start = LogPage::of_all(at, size(count), next_position, &positions).links().next.map(LogStart::Before);
            }
            proptest::prop_assert_eq!(met, (0..next_position).rev().collect::<Vec<_>>());
        }

        #[test]
        fn following_previous_from_last_meets_every_position_once(next_position in 0..200u64, count in 1..50u64) {
            let (mut met, mut start) = (Vec::new(), Some(LogStart::From(0)));
            while let Some(at) = start {
                let positions = at.positions(size(count), next_position);
                met.extend(positions.clone());
                start = LogPage::of_all(at, size(count), next_position, &positions).links().previous.map(LogStart::From);
            }
            proptest::prop_assert_eq!(met, (0..next_position).collect::<Vec<_>>());
        }
    }
}
