//! The events of a page of a filtered log. There is no index of types or prefixes, so they are
//! found by looking at one event after the other. A search looks at a bounded number of them; a
//! page that ends there is shorter than asked for, and its links lead on from there.

use std::time::Instant;

use super::filter::Filter;
use super::limits::{MATCH_PAGE_TIME, MAX_SCANNED_BYTES, MAX_SCANNED_EVENTS, SCAN_STEP_EVENTS, SMALL_PAGE_BYTES};
use super::links::{LinkAccess, LinkResolver};
use super::walk::{self, StepLimits};
use crate::event::log_paging::{self, LogPage};
use crate::event::paging::{Direction, PageSize, PageStart};
use crate::event::{Position, RecordedEvent};
use crate::store::{EventPlace, ReadError, ReadView};

/// What a filtered page shows, and a step to it, as far as that can be helped: one event may be
/// larger.
const STEP_BYTES: usize = SMALL_PAGE_BYTES as usize;

/// What a row takes besides texts and payload, about.
const ROW_BYTES: usize = 64;

/// A search for the events of one page, step by step, each under a view of its own.
#[derive(Debug, Clone)]
pub(super) struct PageSearch {
    start: PageStart,
    size: PageSize,
    /// Position of the next event of the log when the search began. Events that come later are not
    /// on the page.
    pub(super) end: Position,
    /// All events between the beginning and this position were looked at.
    reached: Position,
    /// What was found, in the order of the walk.
    found: Vec<EventPlace>,
    /// The right to read what the links found lead to.
    access: LinkAccess,
    /// What the events found show: their payload, and long names.
    shown_bytes: usize,
    /// Events that were looked at.
    examined: u64,
    /// Their payload.
    examined_bytes: usize,
    /// When it ends whatever it has found; only with a slow filter.
    deadline: Option<Instant>,
}

impl PageSearch {
    /// The search for a page of a log whose next event is at `end`.
    pub(super) fn new(start: PageStart, size: PageSize, end: Position, filter: &Filter) -> Self {
        Self {
            start,
            size,
            end,
            reached: log_paging::first_position(start, end),
            found: Vec::new(),
            access: LinkAccess::Public,
            shown_bytes: 0,
            examined: 0,
            examined_bytes: 0,
            deadline: filter.is_slow().then(|| Instant::now() + MATCH_PAGE_TIME),
        }
    }

    /// Whether the page is full, the log ends, enough was looked at, or it took too long.
    pub(super) fn is_done(&self) -> bool {
        self.is_complete() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Whether another search would come to the same page: time has played no part.
    pub(super) fn is_complete(&self) -> bool {
        self.is_at_the_end()
            || self.found.len() as u64 >= self.size.get()
            || self.examined >= MAX_SCANNED_EVENTS
            || self.examined_bytes >= MAX_SCANNED_BYTES
            || self.shown_bytes >= STEP_BYTES
    }

    /// Whether the log has nothing for the page yet.
    pub(super) fn awaits_events(&self) -> bool {
        self.found.is_empty() && self.start.direction() == Direction::Forward && self.is_at_the_end()
    }

    /// The right to read what the links found lead to.
    pub(super) fn access(&self) -> LinkAccess {
        self.access
    }

    /// Looks at some more events.
    pub(super) fn step(
        &mut self,
        view: &ReadView<'_>,
        mut resolver: LinkResolver<'_, '_>,
        filter: &Filter,
    ) -> Result<(), ReadError> {
        let direction = self.start.direction();
        let left = match direction {
            Direction::Backward => self.reached,
            Direction::Forward => self.end.saturating_sub(self.reached),
        };
        let limits = StepLimits {
            examined: left.min(SCAN_STEP_EVENTS),
            examined_bytes: STEP_BYTES,
            taken: self.size.get() - self.found.len() as u64,
            enough_bytes: STEP_BYTES,
            most_bytes: usize::MAX,
        };
        let step = walk::along_log(view, &mut resolver, direction, self.reached, Some(filter), limits)?;
        self.found.extend(step.events.iter().map(|event| place(&event.original)));
        self.reached = step.reached;
        self.access = self.access.max(resolver.access());
        self.shown_bytes += step.shown_bytes;
        self.examined += step.examined;
        self.examined_bytes += step.examined_bytes;
        Ok(())
    }

    /// The page, and where its events are, ascending.
    pub(super) fn into_page(self) -> (LogPage, Vec<EventPlace>) {
        let Self { start, size, end, reached, mut found, .. } = self;
        let page = LogPage::of_found(start, size, end, reached, found.len());
        match start.direction() {
            Direction::Backward => found.reverse(),
            Direction::Forward => {}
        }
        (page, found)
    }

    /// Whether no event is left to look at.
    fn is_at_the_end(&self) -> bool {
        match self.start.direction() {
            Direction::Backward => self.reached == 0,
            Direction::Forward => self.reached >= self.end,
        }
    }
}

/// Where an event of the log is, and how large its row is, about.
fn place(event: &RecordedEvent) -> EventPlace {
    let bytes = event.stream.len() + event.event_type.len() + event.data.len() + event.metadata.len() + ROW_BYTES;
    EventPlace { number: event.number, position: event.position, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
}
