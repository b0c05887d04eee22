//! The events of a page and the document made of them: at once when they are small, else part by
//! part.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::limits::{PAGE_ENTRY_BYTES, PART_BYTES, SMALL_PAGE_BYTES};
use super::links::{LinkAccess, LinkResolver, Links};
use super::page_format::{Detail, PageFormat, PageHead, PageWriter};
use super::still_readable::Sight;
use crate::event::paging::Direction;
use crate::event::{EventNumber, EventRef, LINK_EVENT_TYPE, LinkTarget, Position, ResolvedRef, Ticks};
use crate::store::{EventPlace, Headings, ReadError, ReadView};

/// What a page shows and how. Nothing in it refers to a view: stored events never change, so a page
/// that was found under one view can be written under later ones.
#[derive(Debug)]
pub(super) struct PagePlan<F> {
    /// Where its events are.
    pub(super) events: PageEvents,
    /// How it is written.
    pub(super) format: Arc<F>,
    /// What is done with links.
    pub(super) links: Links,
    /// The right to read what the links lead to, where it is known already.
    pub(super) link_access: Option<LinkAccess>,
    /// When it was asked for.
    pub(super) now: Ticks,
    /// What the reader might see when the page was found. Parts are written by what it may see
    /// then.
    pub(super) sight: Sight,
}

/// Where the events of a page are.
#[derive(Debug)]
pub(super) enum PageEvents {
    /// Events of a stream, or those that a filter leaves of the log, at these places, ascending.
    Places(Vec<EventPlace>),
    /// Events of the log of all events, at these positions.
    Positions(Range<Position>),
}

impl PageEvents {
    /// Bytes that they take in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Places(places) => places.capacity() * size_of::<EventPlace>(),
            Self::Positions(_) => 0,
        }
    }
}

/// What a page's head says of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageEnds {
    /// The smallest number of a visible event; `None` when there is none.
    pub(super) lowest: Option<EventNumber>,
    /// The time of the event that dates the page, if it can be read: the newest of a backward page,
    /// the oldest of a forward one.
    pub(super) updated: Option<Ticks>,
}

/// What [`PagePlan::begin`] wrote.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// All of the document.
    Whole {
        /// It.
        document: Vec<u8>,
        /// Whether none of its events is a link that was to be followed.
        is_without_links: bool,
    },
    /// What stands before the first event of a large page; [`PagePlan::part`] writes the rest.
    Head(Vec<u8>),
}

/// Bytes that a buffer may have beyond the document in it.
const MAX_SPARE_BYTES: usize = 32 * 1024;

/// Bytes of the rows of these events and of what is written around them.
fn stored_bytes(places: &[EventPlace]) -> u64 {
    places.iter().map(|place| u64::from(place.bytes) + PAGE_ENTRY_BYTES).sum()
}

/// Whether a page of events at these places is sent before all of its rows are read.
pub(super) fn is_large(places: &[EventPlace]) -> bool {
    stored_bytes(places) > SMALL_PAGE_BYTES
}

impl<F: PageFormat> PagePlan<F> {
    /// Writes the document if it is small, else what comes before its events. `head` makes the head
    /// of the page. Also says what the links on it lead to, as far as they were looked at; of a
    /// large page, [`Self::check`] looks at the others.
    pub(super) fn begin<'h>(
        &self,
        view: &ReadView<'_>,
        direction: Direction,
        head: impl FnOnce(PageEnds) -> PageHead<'h>,
    ) -> Result<(Beginning, LinkAccess), ReadError> {
        match &self.events {
            PageEvents::Places(places) => {
                let stored = stored_bytes(places);
                if stored <= SMALL_PAGE_BYTES {
                    // The rows are looked up together and written from where they lie.
                    let rows = view.rows(places)?;
                    let events = rows.iter().map(|row| row.event()).collect::<Result<_, _>>()?;
                    return self.write_small(view, events, stored, direction, head);
                }
                let mut out = Vec::new();
                let ends = self.ends(view, places, direction)?;
                self.format.writer(false).start(&mut out, &head(ends));
                Ok((Beginning::Head(out), self.access_of_unseen_links()))
            }
            PageEvents::Positions(positions) => self.begin_of_log(view, positions.clone(), head),
        }
    }

    /// [`Self::begin`] of a page of `stream` by what the index says of its events; `None` when that
    /// does not suffice for a small document.
    pub(super) fn begin_by_headings<'h>(
        &self,
        view: &ReadView<'_>,
        stream: &str,
        headings: &Headings,
        direction: Direction,
        head: impl FnOnce(PageEnds) -> PageHead<'h>,
    ) -> Result<Option<(Beginning, LinkAccess)>, ReadError> {
        let events: Vec<_> = headings.events(stream).collect();
        let may_be_followed =
            |event: &EventRef<'_>| self.links != Links::AsStored && event.event_type == LINK_EVENT_TYPE;
        if self.format.detail() != Detail::Heading
            || events.len() as u64 * PAGE_ENTRY_BYTES > SMALL_PAGE_BYTES
            || events.iter().any(may_be_followed)
        {
            return Ok(None);
        }
        let begun = self.write_small(view, events, 0, direction, head)?;
        Ok(matches!(begun.0, Beginning::Whole { .. }).then_some(begun))
    }

    /// A small page with these events, ascending.
    fn write_small<'h>(
        &self,
        view: &ReadView<'_>,
        mut events: Vec<EventRef<'_>>,
        stored: u64,
        direction: Direction,
        head: impl FnOnce(PageEnds) -> PageHead<'h>,
    ) -> Result<(Beginning, LinkAccess), ReadError> {
        events.retain(|event| self.sight.shows(*event));
        let mut resolver = self.resolver(view, &self.sight);
        let dated = match direction {
            Direction::Backward => events.last(),
            Direction::Forward => events.first(),
        };
        let updated = match dated {
            Some(event) => shown_time(&mut resolver, *event)?,
            None => None,
        };
        let head = head(PageEnds { lowest: events.first().map(|event| event.number), updated });
        let payloads = if self.format.detail() == Detail::Payload { stored as usize } else { 0 };
        let mut out = Vec::with_capacity(1024 + 768 * events.len() + payloads);
        let mut writer = self.format.writer(false);
        writer.start(&mut out, &head);
        let head_bytes = out.len();
        for event in events.into_iter().rev() {
            self.write(event, &self.sight, &mut resolver, &mut writer, &mut out)?;
            // Links may lead to large events, and long names are repeated with each event.
            if out.len() > PART_BYTES {
                out.truncate(head_bytes);
                return Ok((Beginning::Head(out), resolver.access().max(self.access_of_unseen_links())));
            }
        }
        writer.end(&mut out);
        // The buffer doubles for text that is longer than what is stored, and what a client does
        // not read is counted by the length of the text.
        if out.capacity() - out.len() > MAX_SPARE_BYTES {
            out.shrink_to_fit();
        }
        Ok((Beginning::Whole { document: out, is_without_links: !resolver.has_met_links() }, resolver.access()))
    }

    fn begin_of_log<'h>(
        &self,
        view: &ReadView<'_>,
        positions: Range<Position>,
        head: impl FnOnce(PageEnds) -> PageHead<'h>,
    ) -> Result<(Beginning, LinkAccess), ReadError> {
        let mut resolver = self.resolver(view, &self.sight);
        let mut ends = PageEnds { lowest: None, updated: None };
        view.log_down(positions, |newest| {
            ends.updated = shown_time(&mut resolver, newest)?;
            Ok(ControlFlow::Break(()))
        })?;
        let mut out = Vec::with_capacity(16 << 10);
        self.format.writer(false).start(&mut out, &head(ends));
        let head_bytes = out.len();
        let written = self.write_some(view, self.first_part(), &self.sight, &mut out, SMALL_PAGE_BYTES)?;
        if !written.cursor.is_at_end() {
            out.truncate(head_bytes);
            return Ok((Beginning::Head(out), written.access.max(self.access_of_unseen_links())));
        }
        Ok((Beginning::Whole { document: out, is_without_links: false }, written.access))
    }

    fn access_of_unseen_links(&self) -> LinkAccess {
        match (self.link_access, self.links) {
            (Some(access), _) => access,
            (None, Links::Followed) => LinkAccess::of_unseen(&self.sight.policy),
            // Nobody looks whether one is withheld that others may be shown.
            (None, Links::FollowedWhereAllowed) => LinkAccess::Private,
            (None, Links::AsStored) => LinkAccess::Public,
        }
    }

    /// Looks for the visible ends of a page that is too large to be read at once.
    fn ends(&self, view: &ReadView<'_>, places: &[EventPlace], direction: Direction) -> Result<PageEnds, ReadError> {
        let visible = |place: &EventPlace| -> Result<bool, ReadError> {
            if self.sight.visible.is_ageless() {
                return Ok(true);
            }
            Ok(view.event_at(*place)?.is_some_and(|event| self.sight.shows(event.borrowed())))
        };
        let find = |places: &mut dyn Iterator<Item = &EventPlace>| -> Result<Option<EventPlace>, ReadError> {
            for place in places {
                if visible(place)? {
                    return Ok(Some(*place));
                }
            }
            Ok(None)
        };
        let Some(lowest) = find(&mut places.iter())? else { return Ok(PageEnds { lowest: None, updated: None }) };
        let dated = match direction {
            Direction::Backward => find(&mut places.iter().rev())?.unwrap_or(lowest),
            Direction::Forward => lowest,
        };
        let updated = match view.event_at(dated)? {
            Some(event) => shown_time(&mut self.resolver(view, &self.sight), event.borrowed())?,
            None => None,
        };
        Ok(PageEnds { lowest: Some(lowest.number), updated })
    }

    pub(super) fn resolver<'view, 'db>(
        &self,
        view: &'view ReadView<'db>,
        sight: &'view Sight,
    ) -> LinkResolver<'view, 'db> {
        LinkResolver::new(view, self.links, self.now, &sight.policy)
    }

    pub(super) fn write(
        &self,
        event: EventRef<'_>,
        sight: &Sight,
        resolver: &mut LinkResolver<'_, '_>,
        writer: &mut impl PageWriter,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        if sight.shows(event) {
            writer.event(out, &ResolvedRef { original: event, target: &resolver.target(event)? });
        }
        Ok(())
    }
}

/// The time of the event that a reader sees at this place, if it can be read.
fn shown_time(resolver: &mut LinkResolver<'_, '_>, event: EventRef<'_>) -> Result<Option<Ticks>, ReadError> {
    let target: LinkTarget = resolver.target(event)?;
    Ok(ResolvedRef { original: event, target: &target }.shown().map(|event| event.time))
}
