//! One look for a page, in memory or under one view of the store: the right of the caller, the
//! version it knows, which page this is, where its events are, and the document or its beginning.

use std::ops::Range;
use std::sync::Arc;

use super::document::{Content, LargePage, PageFacts, ReadPageError};
use super::filter::Filter;
use super::links::{LinkAccess, LinkResolver};
use super::page::{self, Beginning, PageEnds, PageEvents, PagePlan};
use super::page_format::{Detail, PageFormat, PageHead, PageIdentity, PageKind};
use super::page_request::PageRequest;
use super::page_search::PageSearch;
use super::refusal::Refusal;
use super::source::{Readable, Source, SourceState};
use super::still_readable::Sight;
use crate::access::Policy;
use crate::event::log_paging::{self, LogPage};
use crate::event::paging::{Direction, PageStart, StreamPage};
use crate::event::visibility::VisibleEvents;
use crate::event::{LINK_EVENT_TYPE, Position, Ticks, Visibility};
use crate::store::{EventPlace, Headings, ReadError, ReadView, StreamInfo};

/// Which page is wanted.
#[derive(Debug)]
pub(super) struct PageTarget {
    pub(super) source: Source,
    pub(super) page: PageRequest,
}

/// What one look found.
pub(super) struct PageLook<F> {
    /// Number or position behind the last event of the source.
    pub(super) end: u64,
    /// Whether a long poll waits for the source to grow before it takes this page.
    pub(super) awaits_events: bool,
    /// The page, or why there is none.
    pub(super) page: Result<FoundPage<F>, ReadPageError>,
}

/// A page that was found.
pub(super) struct FoundPage<F> {
    pub(super) content: Content<F>,
    pub(super) facts: PageFacts,
}

/// How far a look has come.
pub(super) enum Looked<F> {
    /// It is done; the state of the source that it found.
    Done(PageLook<F>, SourceState),
    /// The search for the events of the page has to go on under another view.
    Unfinished(PageSearch),
}

/// All that a look needs. It may look twice: in memory, then on disk.
pub(super) struct PageReader<F> {
    pub(super) target: Arc<PageTarget>,
    pub(super) format: Arc<F>,
    pub(super) policy: Policy,
    pub(super) now: Ticks,
}

/// Which page it is.
#[derive(Debug, Clone, Copy)]
enum Page {
    Stream(StreamPage),
    Log(LogPage),
}

/// The events of a page.
struct Events {
    page: Page,
    places: PageEvents,
    /// What the index says of them where that is wanted.
    headings: Option<Headings>,
    /// The right to read what links among them lead to, where it is known already.
    link_access: Option<LinkAccess>,
    /// Whether every look finds the same ones.
    is_complete: bool,
}

impl<F: PageFormat> PageReader<F> {
    /// The page of a stream, or why there is none, if nothing is needed for it that is not in
    /// memory.
    pub(super) fn look_in_memory(&self, state: &SourceState) -> Option<PageLook<F>> {
        let page = match self.readable(state) {
            Err(error) => Err(error),
            Ok((readable, visible)) => {
                let page = Page::Stream(self.stream_page(visible));
                match self.unchanged(readable, state, page) {
                    Some(unchanged) => Err(unchanged),
                    None => {
                        let document = self.format.recall(self.identity(state, page, visible)?)?;
                        self.found(readable, state, page.is_immutable(), Content::Small(document), LinkAccess::Public)
                    }
                }
            }
        };
        Some(self.looked(state, self.begins_behind_the_end(state), page))
    }

    /// The page or why there is none; or, where it takes a long search, how far that has come. The
    /// search goes on in the log as it was when it began.
    pub(super) fn look(
        &self,
        view: &ReadView<'_>,
        mut state: SourceState,
        begun: Option<PageSearch>,
    ) -> Result<Looked<F>, ReadError> {
        if let Some(begun) = &begun {
            state.end = begun.end;
        }
        let mut awaits_events = self.begins_behind_the_end(&state);
        let page = match self.readable(&state) {
            Err(error) => Err(error),
            Ok((readable, visible)) => match self.unchanged_before_its_events(view, readable, &state, visible)? {
                Some(unchanged) => Err(unchanged),
                None => {
                    let events = match &self.target.source {
                        Source::Stream { .. } => self.events_of_stream(view, &state.info, visible)?,
                        Source::Log { filter: None, .. } => self.events_of_log(view, state.end)?,
                        Source::Log { filter: Some(filter), .. } => {
                            let search = self.search(view, state.end, begun, filter)?;
                            if !search.is_done() {
                                return Ok(Looked::Unfinished(search));
                            }
                            awaits_events = search.awaits_events() && !self.is_known(readable);
                            Events::found(search)
                        }
                    };
                    self.write(view, &state, readable, visible, events)?
                }
            },
        };
        Ok(Looked::Done(self.looked(&state, awaits_events, page), state))
    }

    /// What comes before any event: whether the caller may read the source, and what is visible.
    fn readable<'a>(&'a self, state: &'a SourceState) -> Result<(Readable<'a>, VisibleEvents), ReadPageError> {
        let readable = self.target.source.readable(state, &self.policy)?;
        match readable.visibility(self.now) {
            Visibility::Readable(visible) => Ok((readable, visible)),
            // The version is compared before anything else about a stream (contract/streams 8.7).
            Visibility::NotFound | Visibility::Deleted if self.is_known(readable) => {
                Err(ReadPageError::Unchanged(facts(readable, state, false, LinkAccess::Public)))
            }
            Visibility::NotFound => Err(ReadPageError::NotFound),
            Visibility::Deleted => Err(ReadPageError::Deleted),
        }
    }

    /// Whether the caller knows this version of the source.
    fn is_known(&self, readable: Readable<'_>) -> bool {
        self.target.page.known_versions.contains(&readable.version())
    }

    /// The answer to a caller that knows this version, where it can be told before the links on the
    /// page are looked at.
    fn unchanged(&self, readable: Readable<'_>, state: &SourceState, page: Page) -> Option<ReadPageError> {
        if !self.is_known(readable) {
            return None;
        }
        let facts = facts(readable, state, page.is_immutable(), LinkAccess::Public);
        (!facts.depend_on_links(&self.policy)).then_some(ReadPageError::Unchanged(facts))
    }

    /// The same before the events of the page are found. A forward page of a filtered log has to be
    /// found first: it never changes once enough is on it.
    fn unchanged_before_its_events(
        &self,
        view: &ReadView<'_>,
        readable: Readable<'_>,
        state: &SourceState,
        visible: VisibleEvents,
    ) -> Result<Option<ReadPageError>, ReadError> {
        if !self.is_known(readable) {
            return Ok(None);
        }
        let page = match &self.target.source {
            Source::Stream { .. } => Page::Stream(self.stream_page(visible)),
            Source::Log { filter: Some(_), .. } if self.target.page.start.direction() == Direction::Forward => {
                return Ok(None);
            }
            Source::Log { .. } => Page::Log(self.log_page(view, state.end)?.0),
        };
        Ok(self.unchanged(readable, state, page))
    }

    /// Whether a forward page begins where nothing is yet (contract/streams 8.8). What a filter
    /// leaves is not known before the search.
    fn begins_behind_the_end(&self, state: &SourceState) -> bool {
        match (&self.target.source, self.target.page.start) {
            (Source::Log { filter: Some(_), .. }, _) => false,
            (_, PageStart::Forward(first)) => first >= state.end,
            (_, PageStart::Head | PageStart::Backward(_)) => false,
        }
    }

    fn looked(
        &self,
        state: &SourceState,
        awaits_events: bool,
        page: Result<FoundPage<F>, ReadPageError>,
    ) -> PageLook<F> {
        let is_denied = matches!(page, Err(ReadPageError::Refused(Refusal::Denied)));
        PageLook { end: state.end, awaits_events: awaits_events && !is_denied, page }
    }

    fn stream_page(&self, visible: VisibleEvents) -> StreamPage {
        StreamPage::new(visible.bounds, self.target.page.start, self.target.page.size)
    }

    /// The page of the whole log, and the positions of its events, some of which may be holes.
    fn log_page(&self, view: &ReadView<'_>, end: Position) -> Result<(LogPage, Range<Position>), ReadError> {
        let PageRequest { start, size, .. } = self.target.page;
        let first = log_paging::first_position(start, end).min(end);
        let (positions, events) = match start.direction() {
            Direction::Backward => view.span_down(first, size.get())?,
            Direction::Forward => view.span_up(first, size.get(), end)?,
        };
        Ok((LogPage::of_all(start, size, end, &positions, events), positions))
    }

    /// The events of a page of a stream are found in its index.
    fn events_of_stream(
        &self,
        view: &ReadView<'_>,
        info: &StreamInfo,
        visible: VisibleEvents,
    ) -> Result<Events, ReadError> {
        let page = self.stream_page(visible);
        let (Some(id), Some(numbers)) = (info.id, page.numbers()) else {
            return Ok(Events::of_stream(page, Vec::new(), None, None));
        };
        let (places, headings) = match self.format.detail() {
            Detail::Heading => view.places_and_headings(id, numbers.clone())?,
            Detail::Description | Detail::Payload => (view.places(id, numbers.clone())?, None),
        };
        let link_access = match &headings {
            _ if !page::is_large(&places) => None,
            Some(headings) => access_without_links(headings),
            // The head of a large page is sent before its rows are read; the index tells the types,
            // where it has them.
            None => view.places_and_headings(id, numbers)?.1.as_ref().and_then(access_without_links),
        };
        Ok(Events::of_stream(page, places, headings, link_access))
    }

    /// The events of a page of the whole log: so many of those that are left, from where the page
    /// begins.
    fn events_of_log(&self, view: &ReadView<'_>, end: Position) -> Result<Events, ReadError> {
        let (page, positions) = self.log_page(view, end)?;
        Ok(Events {
            page: Page::Log(page),
            places: PageEvents::Positions(positions),
            headings: None,
            link_access: None,
            is_complete: true,
        })
    }

    /// The events of a page of a filtered log are searched for, one more step of the way here.
    fn search(
        &self,
        view: &ReadView<'_>,
        end: Position,
        begun: Option<PageSearch>,
        filter: &Filter,
    ) -> Result<PageSearch, ReadError> {
        let PageRequest { start, size, .. } = self.target.page;
        let mut search = begun.unwrap_or_else(|| PageSearch::new(start, size, end, filter));
        if !search.is_done() {
            let links = self.target.source.links();
            search.step(view, LinkResolver::new(view, links, self.now, &self.policy), filter)?;
        }
        Ok(search)
    }

    /// Writes the page, or what comes before the events of a large one.
    fn write(
        &self,
        view: &ReadView<'_>,
        state: &SourceState,
        readable: Readable<'_>,
        visible: VisibleEvents,
        events: Events,
    ) -> Result<Result<FoundPage<F>, ReadPageError>, ReadError> {
        let Events { page, places, headings, link_access, is_complete } = events;
        if link_access == Some(LinkAccess::Denied) {
            return Ok(Err(Refusal::Denied.into()));
        }
        let (stream, dated_by) = (self.target.source.stream(), page.dated_by(self.target.page.start));
        let plan = PagePlan {
            events: places,
            format: self.format.clone(),
            links: self.target.source.links(),
            link_access,
            now: self.now,
            sight: Sight { policy: self.policy.clone(), visible },
        };
        let redactions = state.redactions();
        let head = |ends: PageEnds| PageHead { page: page.kind(stream, ends), updated: ends.updated, redactions };
        let by_headings = match headings {
            Some(headings) => plan.begin_by_headings(view, stream, &headings, dated_by, head)?,
            None => None,
        };
        let (beginning, access) = match by_headings {
            Some(begun) => begun,
            None => plan.begin(view, dated_by, head)?,
        };
        if access == LinkAccess::Denied {
            return Ok(Err(Refusal::Denied.into()));
        }
        let content = match beginning {
            Beginning::Whole { document, is_without_links } => {
                let identity = self.identity(state, page, visible).filter(|_| is_without_links);
                Content::Small(match identity {
                    Some(identity) => self.format.offer(identity, document),
                    None => document.into(),
                })
            }
            Beginning::Head(head) => Content::Large(LargePage { head, plan }),
        };
        Ok(self.found(readable, state, page.is_immutable() && is_complete, content, access))
    }

    /// The page; of one that the caller knows, only what stands beside it.
    fn found(
        &self,
        readable: Readable<'_>,
        state: &SourceState,
        is_immutable: bool,
        content: Content<F>,
        access: LinkAccess,
    ) -> Result<FoundPage<F>, ReadPageError> {
        let facts = facts(readable, state, is_immutable, access);
        if self.is_known(readable) { Err(ReadPageError::Unchanged(facts)) } else { Ok(FoundPage { content, facts }) }
    }

    /// All that the document of the page depends on; `None` when that is more than its numbers: the
    /// time of day, or that there are no events. Pages of the log are not kept.
    fn identity(&self, state: &SourceState, page: Page, visible: VisibleEvents) -> Option<PageIdentity> {
        let Page::Stream(page) = page else { return None };
        let numbers = page.numbers()?;
        if !visible.is_ageless() {
            return None;
        }
        let (lowest, highest) = numbers.into_inner();
        Some(PageIdentity {
            stream_id: state.info.id?,
            numbers: (lowest, highest),
            redactions: state.redactions(),
            head: page.head(Some(lowest)),
            links: self.target.source.links(),
        })
    }
}

fn facts(readable: Readable<'_>, state: &SourceState, is_immutable: bool, access: LinkAccess) -> PageFacts {
    PageFacts {
        version: readable.version(),
        is_immutable,
        cache_control_s: state.info.metadata.cache_control_s,
        is_public: access == LinkAccess::Public && readable.is_public(),
    }
}

impl Page {
    /// What the page says of itself.
    fn kind<'a>(&self, stream: &'a str, ends: PageEnds) -> PageKind<'a> {
        match self {
            Self::Stream(page) => PageKind::Stream { name: stream, head: page.head(ends.lowest) },
            Self::Log(page) => PageKind::Log(*page),
        }
    }

    /// From which end the event comes that dates the page: the newest of a backward page and of any
    /// page of the log, the oldest of a forward one.
    fn dated_by(&self, start: PageStart) -> Direction {
        match self {
            Self::Stream(_) => start.direction(),
            Self::Log(_) => Direction::Backward,
        }
    }

    fn is_immutable(&self) -> bool {
        match self {
            Self::Stream(page) => page.is_immutable(),
            Self::Log(page) => page.is_immutable(),
        }
    }
}

impl Events {
    fn of_stream(
        page: StreamPage,
        places: Vec<EventPlace>,
        headings: Option<Headings>,
        link_access: Option<LinkAccess>,
    ) -> Self {
        Self { page: Page::Stream(page), places: PageEvents::Places(places), headings, link_access, is_complete: true }
    }

    fn found(search: PageSearch) -> Self {
        let (link_access, is_complete) = (Some(search.access()), search.is_complete());
        let (page, places) = search.into_page();
        Self { page: Page::Log(page), places: PageEvents::Places(places), headings: None, link_access, is_complete }
    }
}

/// Everybody may read what no link leads to; of links, the index does not say where they lead.
fn access_without_links(headings: &Headings) -> Option<LinkAccess> {
    let has_links = headings.events("").any(|event| event.event_type == LINK_EVENT_TYPE);
    (!has_links).then_some(LinkAccess::Public)
}
