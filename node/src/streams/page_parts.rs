//! Large pages: written part by part, each under a view of its own, within a bound on what all of
//! them hold in memory.

use std::ops::ControlFlow;

use super::limits::{
    MAX_CHECKED_BYTES, MAX_CHECKED_LINK_BYTES, MAX_PART_READ_BYTES, PAGE_ENTRY_BYTES, PAGE_READ_STEP_BYTES, PART_BYTES,
};
use super::links::{LinkAccess, Links};
use super::page::{PageEvents, PagePlan};
use super::page_format::{PageFormat, PageWriter};
use super::still_readable::Sight;
use crate::event::EventRef;
use crate::store::{EventPlace, ReadError, ReadView};

/// How far the parts of a page have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartCursor {
    /// Events that are not written yet: the oldest ones.
    left: usize,
    has_events: bool,
}

impl PartCursor {
    /// Whether the document is complete.
    pub(super) fn is_at_end(self) -> bool {
        self.left == 0
    }
}

/// What was written of a page under one view.
pub(super) struct Written {
    /// How far it came.
    pub(super) cursor: PartCursor,
    /// The right to read what the links in it lead to.
    pub(super) access: LinkAccess,
    /// The streams whose events it shows because links lead there.
    pub(super) followed: Vec<String>,
}

/// How far the links of a large page were looked at, and what was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkCheck {
    /// Events that are not looked at yet: the oldest ones.
    left: usize,
    read_bytes: u64,
    access: LinkAccess,
}

impl LinkCheck {
    /// Whether there is nothing more to find.
    pub(super) fn is_done(self) -> bool {
        self.left == 0 || self.read_bytes >= MAX_CHECKED_BYTES || self.is_denied()
    }

    /// Whether a link leads to what the caller may not read.
    pub(super) fn is_denied(self) -> bool {
        self.access == LinkAccess::Denied
    }
}

impl<F: PageFormat> PagePlan<F> {
    /// Where [`Self::part`] begins.
    pub(super) fn first_part(&self) -> PartCursor {
        let left = match &self.events {
            PageEvents::Places(places) => places.len(),
            PageEvents::Positions(positions) => (positions.end - positions.start) as usize,
        };
        PartCursor { left, has_events: false }
    }

    /// Where [`Self::check`] begins. There is nothing to look at where no link can close the page
    /// or all were looked at, and for administrators.
    pub(super) fn first_check(&self) -> LinkCheck {
        let is_needed =
            self.links == Links::Followed && self.link_access.is_none() && !self.sight.policy.caller.is_admin();
        let left = if is_needed { self.first_part().left } else { 0 };
        LinkCheck { left, read_bytes: 0, access: LinkAccess::Public }
    }

    /// Looks at some more links, newest first. Later parts leave a link unresolved if the caller
    /// may not read its target and this did not find out: one in a very large event, one behind
    /// very many others, or one whose target was closed meanwhile.
    pub(super) fn check(&self, view: &ReadView<'_>, check: LinkCheck) -> Result<LinkCheck, ReadError> {
        let LinkCheck { mut left, mut read_bytes, mut access } = check;
        let read_up_to = (read_bytes + MAX_PART_READ_BYTES).min(MAX_CHECKED_BYTES);
        let mut resolver = self.resolver(view, &self.sight);
        let mut look = |event: EventRef<'_>| -> Result<LinkAccess, ReadError> {
            if self.sight.shows(event) {
                resolver.check(event)?;
            }
            Ok(resolver.access())
        };
        match &self.events {
            PageEvents::Places(places) => {
                while left > 0 && read_bytes < read_up_to && access != LinkAccess::Denied {
                    let step = last_step(&places[..left]);
                    left -= step.len();
                    let is_small = |place: &&EventPlace| u64::from(place.bytes) <= MAX_CHECKED_LINK_BYTES;
                    let small: Vec<EventPlace> = step.iter().filter(is_small).copied().collect();
                    read_bytes += small.iter().map(|place| u64::from(place.bytes)).sum::<u64>();
                    for row in &view.rows(&small)? {
                        access = access.max(look(row.event()?)?);
                    }
                }
            }
            PageEvents::Positions(positions) => {
                let mut next = positions.start;
                view.log_down(positions.start..positions.start + left as u64, |event| {
                    access = access.max(look(event)?);
                    read_bytes += (event.data.len() + event.metadata.len()) as u64;
                    if read_bytes < read_up_to && access != LinkAccess::Denied {
                        return Ok(ControlFlow::Continue(()));
                    }
                    next = event.position;
                    Ok(ControlFlow::Break(()))
                })?;
                left = (next - positions.start) as usize;
            }
        }
        Ok(LinkCheck { left, read_bytes, access })
    }

    /// Appends the next events, about [`PART_BYTES`] of them or one, and the end of the document
    /// behind the last. `sight` is what the reader may see under this view.
    pub(super) fn part(
        &self,
        view: &ReadView<'_>,
        cursor: PartCursor,
        sight: &Sight,
        out: &mut Vec<u8>,
    ) -> Result<Written, ReadError> {
        self.write_some(view, cursor, sight, out, MAX_PART_READ_BYTES)
    }

    /// Stops where `out` has the size of a part, or so much was read.
    pub(super) fn write_some(
        &self,
        view: &ReadView<'_>,
        cursor: PartCursor,
        sight: &Sight,
        out: &mut Vec<u8>,
        max_read: u64,
    ) -> Result<Written, ReadError> {
        let mut left = cursor.left;
        let mut read = 0;
        let mut resolver = self.resolver(view, sight);
        let mut writer = self.format.writer(cursor.has_events);
        match &self.events {
            PageEvents::Places(places) => {
                while left > 0 && out.len() < PART_BYTES && read < max_read {
                    let step = last_step(&places[..left]);
                    left -= step.len();
                    read += step.iter().map(|place| u64::from(place.bytes)).sum::<u64>();
                    for row in view.rows(step)?.iter().rev() {
                        self.write(row.event()?, sight, &mut resolver, &mut writer, out)?;
                    }
                }
            }
            PageEvents::Positions(positions) => {
                let mut next = positions.start;
                view.log_down(positions.start..positions.start + left as u64, |event| {
                    self.write(event, sight, &mut resolver, &mut writer, out)?;
                    read += (event.data.len() + event.metadata.len()) as u64 + PAGE_ENTRY_BYTES;
                    if out.len() < PART_BYTES && read < max_read {
                        return Ok(ControlFlow::Continue(()));
                    }
                    next = event.position;
                    Ok(ControlFlow::Break(()))
                })?;
                left = (next - positions.start) as usize;
            }
        }
        if left == 0 {
            writer.end(out);
        }
        let cursor = PartCursor { left, has_events: writer.has_events() };
        Ok(Written { cursor, access: resolver.access(), followed: resolver.into_shown().collect() })
    }
}

/// The last of these places that are read together: as many as are no more than
/// [`PAGE_READ_STEP_BYTES`], or one.
fn last_step(places: &[EventPlace]) -> &[EventPlace] {
    let mut bytes = 0;
    let fits = |place: &&EventPlace| {
        bytes += u64::from(place.bytes);
        bytes <= PAGE_READ_STEP_BYTES
    };
    let count = places.iter().rev().take_while(fits).count().max(1);
    &places[places.len().saturating_sub(count)..]
}
