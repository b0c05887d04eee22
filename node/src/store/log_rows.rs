//! The rows of the log of all events one after the other, over the holes that removed events leave.
//! It is known exactly which positions have a row, so a row that is missing is damage.

use std::ops::Range;

use rocksdb::DBRawIterator;

use super::hole_row::{self, Holes, SPAN};
use super::read::{ReadView, missing};
use super::{ReadError, event_row, options};
use crate::event::{EventRef, Position};

/// The holes of one row of the family, kept by a view: neighbours are asked for one after the
/// other.
#[derive(Debug, Clone)]
pub(super) struct KeptHoles {
    row: u64,
    /// `None` when the row has none.
    holes: Option<Holes>,
}

impl ReadView<'_> {
    /// Whether the event at this position was removed.
    pub(crate) fn is_hole(&self, position: Position) -> Result<bool, ReadError> {
        self.with_holes(position, |holes| holes.is_some_and(|holes| holes.contains(position % SPAN)))
    }

    /// The lowest position of the range whose event was not removed.
    pub(super) fn first_kept(&self, positions: Range<Position>) -> Result<Option<Position>, ReadError> {
        let mut at = positions.start;
        while at < positions.end {
            let base = at - at % SPAN;
            let end = (base + SPAN).min(positions.end);
            let kept = self.with_holes(at, |holes| match holes {
                None => Some(at),
                Some(holes) => holes.first_kept(at - base..end - base).map(|offset| base + offset),
            })?;
            if kept.is_some() {
                return Ok(kept);
            }
            at = end;
        }
        Ok(None)
    }

    /// The highest position of the range whose event was not removed.
    pub(super) fn last_kept(&self, positions: Range<Position>) -> Result<Option<Position>, ReadError> {
        let mut end = positions.end;
        while end > positions.start {
            let highest = end - 1;
            let base = highest - highest % SPAN;
            let start = base.max(positions.start);
            let kept = self.with_holes(highest, |holes| match holes {
                None => Some(highest),
                Some(holes) => holes.last_kept(start - base..end - base).map(|offset| base + offset),
            })?;
            if kept.is_some() {
                return Ok(kept);
            }
            end = start;
        }
        Ok(None)
    }

    /// The positions from `from` to the last of the `count` next events, and how many there are.
    pub(crate) fn span_up(
        &self,
        from: Position,
        count: u64,
        end: Position,
    ) -> Result<(Range<Position>, u64), ReadError> {
        if !self.has_holes() {
            let to = from.saturating_add(count).min(end).max(from);
            return Ok((from..to, to - from));
        }
        let (mut next, mut found) = (from, 0);
        while found < count
            && let Some(kept) = self.first_kept(next..end)?
        {
            next = kept + 1;
            found += 1;
        }
        // What was removed behind the last event belongs to the page, too, unless it is full.
        let to = if found < count { end.max(from) } else { next };
        Ok((from..to, found))
    }

    /// The positions from the first of the `count` events before `before`, and how many there are.
    pub(crate) fn span_down(&self, before: Position, count: u64) -> Result<(Range<Position>, u64), ReadError> {
        if !self.has_holes() {
            let start = before.saturating_sub(count);
            return Ok((start..before, before - start));
        }
        let (mut start, mut found) = (before, 0);
        while found < count
            && let Some(kept) = self.last_kept(0..start)?
        {
            start = kept;
            found += 1;
        }
        let start = if found < count { 0 } else { start };
        Ok((start..before, found))
    }

    /// Calls `ask` with the holes of the row of this position.
    fn with_holes<T>(&self, position: Position, ask: impl FnOnce(Option<&Holes>) -> T) -> Result<T, ReadError> {
        if !self.has_holes() {
            return Ok(ask(None));
        }
        let row = position / SPAN;
        let mut kept = self.holes.borrow_mut();
        if kept.as_ref().is_none_or(|kept| kept.row != row) {
            let value = self.get(options::HOLE, &hole_row::key(position))?;
            let holes = value.map(|value| Holes::decode(&value)).transpose()?;
            *kept = Some(KeptHoles { row, holes });
        }
        Ok(ask(kept.as_ref().and_then(|kept| kept.holes.as_ref())))
    }
}

/// A walk over the events at some positions.
pub(super) struct LogRows<'view, 'db> {
    view: &'view ReadView<'db>,
    rows: DBRawIterator<'db>,
    /// Where no event was shown yet.
    left: Range<Position>,
    /// The position of the row that the iterator is at.
    at: Option<Position>,
}

impl<'view, 'db> LogRows<'view, 'db> {
    /// Over these positions, all of which are below the next one of the log.
    pub(super) fn new(view: &'view ReadView<'db>, positions: Range<Position>) -> Self {
        let rows = view.iterate(
            options::EVENT,
            &event_row::key(positions.start),
            &event_row::key(positions.end.max(positions.start)),
        );
        Self { view, rows, left: positions, at: None }
    }

    /// Moves on to the next event upwards; false when there is none.
    pub(super) fn up(&mut self) -> Result<bool, ReadError> {
        let Some(wanted) = self.view.first_kept(self.left.clone())? else { return Ok(false) };
        self.left.start = wanted + 1;
        match self.at {
            Some(at) if at + 1 == wanted => self.rows.next(),
            _ => self.rows.seek(event_row::key(wanted)),
        }
        self.arrive(wanted)
    }

    /// Moves on to the next event downwards; false when there is none.
    pub(super) fn down(&mut self) -> Result<bool, ReadError> {
        let Some(wanted) = self.view.last_kept(self.left.clone())? else { return Ok(false) };
        self.left.end = wanted;
        match self.at {
            Some(at) if at == wanted + 1 => self.rows.prev(),
            _ => self.rows.seek_for_prev(event_row::key(wanted)),
        }
        self.arrive(wanted)
    }

    /// The event that it has moved to, and the size of its row.
    pub(super) fn event(&self) -> Result<(EventRef<'_>, usize), ReadError> {
        let (Some(at), Some(value)) = (self.at, self.rows.value()) else {
            return Err(ReadError::Damaged("a walk over the log stands at no event".into()));
        };
        Ok((event_row::read(at, value)?, value.len()))
    }

    fn arrive(&mut self, wanted: Position) -> Result<bool, ReadError> {
        let reached = self.rows.key().map(event_row::position).transpose()?;
        if reached != Some(wanted) {
            // An iterator ends the same way at the end and at an unreadable block.
            self.rows.status().map_err(ReadError::from_rocksdb)?;
            return Err(missing(wanted));
        }
        self.at = Some(wanted);
        Ok(true)
    }
}
