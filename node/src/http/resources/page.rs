//! The events of a page and the document made of them: at once when they are small, else part by part.

use std::ops::{ControlFlow, Range};

use crate::access::Policy;
use crate::event::{EventNumber, EventRef, LINK_EVENT_TYPE, Position, Ticks};
use crate::http::format::atom::{Entry, Feed, FeedWriter, Format, Target};
use crate::http::limits::{
    MAX_CHECKED_BYTES, MAX_CHECKED_LINK_BYTES, MAX_PART_READ_BYTES, PAGE_ENTRY_BYTES, PAGE_READ_STEP_BYTES, PART_BYTES,
    SMALL_PAGE_BYTES,
};
use crate::http::resources::read::{Resolver, Targets};
use crate::store::{EventPlace, Headings, ReadError, ReadView};

/// What a page shows and how. Nothing in it refers to a view: stored events never change, so a page that was found under one
/// view can be written under later ones.
#[derive(Debug)]
pub struct Page {
    /// Where its events are.
    pub events: Events,
    /// How it is written.
    pub format: Format,
    /// Whether links are followed.
    pub follows_links: bool,
    /// False when it is known that none of the events is a link.
    pub may_have_links: bool,
    /// Older events are not shown.
    pub oldest: Ticks,
    /// When it was asked for.
    pub now: Ticks,
    /// Who asked for it, and what that allows.
    pub policy: Policy,
}

/// Where the events of a page are.
#[derive(Debug)]
pub enum Events {
    /// Of a stream: at these places, ascending.
    Places(Vec<EventPlace>),
    /// Of the log of all events: at these positions.
    Log(Range<Position>),
}

/// Which event dates a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatedBy {
    /// The first entry.
    Newest,
    /// The last entry.
    Oldest,
}

/// What a page's head says of its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The smallest number of a visible event; `None` when there is none.
    pub lowest: Option<EventNumber>,
    /// The time of the event that dates the page, if it can be read.
    pub updated: Option<Ticks>,
}

/// What [`Page::begin`] wrote.
#[derive(Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The document, and whether it depends on nothing but its own events: none of them is a link that was followed.
    Whole(Vec<u8>, bool),
    /// What stands before the first entry of a large page; [`Page::part`] writes the rest.
    Head(Vec<u8>),
}

/// How far the parts of a page have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Events that are not written yet: the oldest ones.
    left: usize,
    has_entries: bool,
}

impl Cursor {
    /// Whether the document is complete.
    pub fn is_at_end(self) -> bool {
        self.left == 0
    }
}

/// How far the links of a large page were looked at, and what was found.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Events that are not looked at yet: the oldest ones.
    left: usize,
    read_bytes: u64,
    targets: Targets,
}

impl Check {
    /// Whether there is nothing more to find.
    pub fn is_done(self) -> bool {
        self.left == 0 || self.read_bytes >= MAX_CHECKED_BYTES || self.is_denied()
    }

    /// Whether a link leads to what the caller may not read.
    pub fn is_denied(self) -> bool {
        self.targets == Targets::Denied
    }
}

/// Bytes of the rows of these events and of what is written around them.
fn stored_bytes(places: &[EventPlace]) -> u64 {
    places.iter().map(|place| u64::from(place.bytes) + PAGE_ENTRY_BYTES).sum()
}

/// Whether a page of events at these places is sent before all of its rows are read.
pub fn is_large(places: &[EventPlace]) -> bool {
    stored_bytes(places) > SMALL_PAGE_BYTES
}

impl Page {
    /// Writes the document if it is small, else what comes before its entries, which `feed` knows. Also says what the links on it lead to,
    /// as far as they were looked at; of a large page, [`Self::check`] looks at the others.
    pub fn begin(
        &self,
        view: &ReadView<'_>,
        dated_by: DatedBy,
        feed: impl FnOnce(Ends) -> Feed,
    ) -> Result<(Beginning, Targets), ReadError> {
        match &self.events {
            Events::Places(places) => {
                let stored = stored_bytes(places);
                if stored <= SMALL_PAGE_BYTES {
                    // The rows are looked up together and written from where they lie.
                    let rows = view.rows(places)?;
                    let events = rows.iter().map(|row| row.event()).collect::<Result<_, _>>()?;
                    return self.small(view, events, stored, dated_by, feed);
                }
                let mut out = Vec::new();
                FeedWriter::new(&self.format, false).start(&mut out, &feed(self.ends(view, places, dated_by)?));
                Ok((Beginning::Head(out), self.unknown_targets()))
            }
            Events::Log(positions) => self.begin_of_log(view, positions.clone(), feed),
        }
    }

    /// [`Self::begin`] of a page of `stream` by what the index says of its events; `None` when that does not suffice for a small document.
    pub fn begin_by_headings(
        &self,
        view: &ReadView<'_>,
        stream: &str,
        headings: &Headings,
        dated_by: DatedBy,
        feed: impl FnOnce(Ends) -> Feed,
    ) -> Result<Option<(Beginning, Targets)>, ReadError> {
        let events: Vec<_> = headings.events(stream).collect();
        let may_be_followed = |event: &EventRef<'_>| self.follows_links && event.event_type == LINK_EVENT_TYPE;
        if !self.format.shows_headings_alone()
            || events.len() as u64 * PAGE_ENTRY_BYTES > SMALL_PAGE_BYTES
            || events.iter().any(may_be_followed)
        {
            return Ok(None);
        }
        let begun = self.small(view, events, 0, dated_by, feed)?;
        Ok(matches!(begun.0, Beginning::Whole(..)).then_some(begun))
    }

    /// A small page of a stream with these events, ascending.
    fn small(
        &self,
        view: &ReadView<'_>,
        mut events: Vec<EventRef<'_>>,
        stored: u64,
        dated_by: DatedBy,
        feed: impl FnOnce(Ends) -> Feed,
    ) -> Result<(Beginning, Targets), ReadError> {
        events.retain(|event| self.is_visible(*event));
        let mut resolver = Resolver::new(view, self.now, &self.policy);
        let dated = match dated_by {
            DatedBy::Newest => events.last(),
            DatedBy::Oldest => events.first(),
        };
        let updated = match dated {
            Some(event) => self.shown_time(&mut resolver, *event)?,
            None => None,
        };
        let feed = feed(Ends { lowest: events.first().map(|event| event.number), updated });
        let payloads = if self.format.shows_payloads() { stored as usize } else { 0 };
        let mut out = Vec::with_capacity(1024 + 768 * events.len() + payloads);
        let mut writer = FeedWriter::new(&self.format, false);
        writer.start(&mut out, &feed);
        let head = out.len();
        for event in events.into_iter().rev() {
            self.write(event, &mut resolver, &mut writer, &mut out)?;
            // Links may lead to large events, and long names are repeated in each entry.
            if out.len() > PART_BYTES {
                out.truncate(head);
                return Ok((Beginning::Head(out), resolver.targets().max(self.unknown_targets())));
            }
        }
        writer.end(&mut out);
        Ok((Beginning::Whole(out, !resolver.has_met_links()), resolver.targets()))
    }

    fn begin_of_log(
        &self,
        view: &ReadView<'_>,
        positions: Range<Position>,
        feed: impl FnOnce(Ends) -> Feed,
    ) -> Result<(Beginning, Targets), ReadError> {
        let mut resolver = Resolver::new(view, self.now, &self.policy);
        let mut ends = Ends { lowest: None, updated: None };
        view.log_down(positions, |newest| {
            ends.updated = self.shown_time(&mut resolver, newest)?;
            Ok(ControlFlow::Break(()))
        })?;
        let mut out = Vec::with_capacity(16 << 10);
        FeedWriter::new(&self.format, false).start(&mut out, &feed(ends));
        let head = out.len();
        let (cursor, targets) = self.write_some(view, self.first_part(), &mut out, SMALL_PAGE_BYTES)?;
        if !cursor.is_at_end() {
            out.truncate(head);
            return Ok((Beginning::Head(out), targets.max(self.unknown_targets())));
        }
        Ok((Beginning::Whole(out, false), targets))
    }

    fn unknown_targets(&self) -> Targets {
        Targets::unknown(&self.policy, self.follows_links && self.may_have_links)
    }

    /// Where [`Self::part`] begins.
    pub fn first_part(&self) -> Cursor {
        let left = match &self.events {
            Events::Places(places) => places.len(),
            Events::Log(positions) => (positions.end - positions.start) as usize,
        };
        Cursor { left, has_entries: false }
    }

    /// Where [`Self::check`] begins. There is nothing to look at where links are not followed, and for administrators.
    pub fn first_check(&self) -> Check {
        let left = if self.follows_links && !self.policy.caller.is_admin() { self.first_part().left } else { 0 };
        Check { left, read_bytes: 0, targets: Targets::Public }
    }

    /// Looks at some more links, newest first. Afterwards parts show a link as such where the caller may not read what it leads to: one in
    /// a very large event or behind very many others, or after a change of access lists meanwhile.
    pub fn check(&self, view: &ReadView<'_>, check: Check) -> Result<Check, ReadError> {
        let Check { mut left, mut read_bytes, mut targets } = check;
        let read_up_to = (read_bytes + MAX_PART_READ_BYTES).min(MAX_CHECKED_BYTES);
        let mut resolver = Resolver::new(view, self.now, &self.policy);
        let mut look = |event: EventRef<'_>| -> Result<Targets, ReadError> {
            if self.is_visible(event) {
                resolver.check(event)?;
            }
            Ok(resolver.targets())
        };
        match &self.events {
            Events::Places(places) => {
                while left > 0 && read_bytes < read_up_to && targets != Targets::Denied {
                    let step = step(&places[..left]);
                    left -= step.len();
                    let is_small = |place: &&EventPlace| u64::from(place.bytes) <= MAX_CHECKED_LINK_BYTES;
                    let small: Vec<EventPlace> = step.iter().filter(is_small).copied().collect();
                    read_bytes += small.iter().map(|place| u64::from(place.bytes)).sum::<u64>();
                    for row in &view.rows(&small)? {
                        targets = targets.max(look(row.event()?)?);
                    }
                }
            }
            Events::Log(positions) => {
                let mut next = positions.start;
                view.log_down(positions.start..positions.start + left as u64, |event| {
                    targets = targets.max(look(event)?);
                    read_bytes += (event.data.len() + event.metadata.len()) as u64;
                    if read_bytes < read_up_to && targets != Targets::Denied {
                        return Ok(ControlFlow::Continue(()));
                    }
                    next = event.position;
                    Ok(ControlFlow::Break(()))
                })?;
                left = (next - positions.start) as usize;
            }
        }
        Ok(Check { left, read_bytes, targets })
    }

    /// Appends the next entries, about [`PART_BYTES`] of them or one, and the end of the document behind the last.
    pub fn part(&self, view: &ReadView<'_>, cursor: Cursor, out: &mut Vec<u8>) -> Result<Cursor, ReadError> {
        Ok(self.write_some(view, cursor, out, MAX_PART_READ_BYTES)?.0)
    }

    /// Stops where `out` has the size of a part, or so much was read.
    fn write_some(
        &self,
        view: &ReadView<'_>,
        cursor: Cursor,
        out: &mut Vec<u8>,
        max_read: u64,
    ) -> Result<(Cursor, Targets), ReadError> {
        let mut left = cursor.left;
        let mut read = 0;
        let mut resolver = Resolver::new(view, self.now, &self.policy);
        let mut writer = FeedWriter::new(&self.format, cursor.has_entries);
        match &self.events {
            Events::Places(places) => {
                while left > 0 && out.len() < PART_BYTES && read < max_read {
                    let step = step(&places[..left]);
                    left -= step.len();
                    read += step.iter().map(|place| u64::from(place.bytes)).sum::<u64>();
                    for row in view.rows(step)?.iter().rev() {
                        self.write(row.event()?, &mut resolver, &mut writer, out)?;
                    }
                }
            }
            Events::Log(positions) => {
                let mut next = positions.start;
                view.log_down(positions.start..positions.start + left as u64, |event| {
                    self.write(event, &mut resolver, &mut writer, out)?;
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
        Ok((Cursor { left, has_entries: writer.has_entries() }, resolver.targets()))
    }

    /// Looks for the visible ends of a page that is too large to be read at once.
    fn ends(&self, view: &ReadView<'_>, places: &[EventPlace], dated_by: DatedBy) -> Result<Ends, ReadError> {
        let visible = |place: &EventPlace| -> Result<bool, ReadError> {
            Ok(self.oldest == Ticks(0) || view.event_at(*place)?.time >= self.oldest)
        };
        let find = |places: &mut dyn Iterator<Item = &EventPlace>| -> Result<Option<EventPlace>, ReadError> {
            for place in places {
                if visible(place)? {
                    return Ok(Some(*place));
                }
            }
            Ok(None)
        };
        let Some(lowest) = find(&mut places.iter())? else { return Ok(Ends { lowest: None, updated: None }) };
        let dated = match dated_by {
            DatedBy::Newest => find(&mut places.iter().rev())?.unwrap_or(lowest),
            DatedBy::Oldest => lowest,
        };
        let event = view.event_at(dated)?;
        let updated = self.shown_time(&mut Resolver::new(view, self.now, &self.policy), event.borrowed())?;
        Ok(Ends { lowest: Some(lowest.number), updated })
    }

    fn write(
        &self,
        event: EventRef<'_>,
        resolver: &mut Resolver<'_, '_>,
        writer: &mut FeedWriter<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        if self.is_visible(event) {
            writer.entry(out, &Entry { positioned: event, target: &self.target(resolver, event)? });
        }
        Ok(())
    }

    fn is_visible(&self, event: EventRef<'_>) -> bool {
        event.time >= self.oldest
    }

    fn target(&self, resolver: &mut Resolver<'_, '_>, event: EventRef<'_>) -> Result<Target, ReadError> {
        if self.follows_links { resolver.target(event) } else { Ok(Target::None) }
    }

    fn shown_time(&self, resolver: &mut Resolver<'_, '_>, event: EventRef<'_>) -> Result<Option<Ticks>, ReadError> {
        let target = self.target(resolver, event)?;
        Ok(Entry { positioned: event, target: &target }.shown().map(|event| event.time))
    }
}

/// The last of these places that are read together: as many as are no more than [`PAGE_READ_STEP_BYTES`], or one.
fn step(places: &[EventPlace]) -> &[EventPlace] {
    let mut bytes = 0;
    let fits = |place: &&EventPlace| {
        bytes += u64::from(place.bytes);
        bytes <= PAGE_READ_STEP_BYTES
    };
    let count = places.iter().rev().take_while(fits).count().max(1);
    &places[places.len().saturating_sub(count)..]
}
