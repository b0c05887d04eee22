//! Pages of a stream (contract/streams 8).

use std::sync::Arc;

use super::Streams;
use super::document::{Content, PageRead};
use super::links::{LinkAccess, Links};
use super::page::{self, Beginning, PageEnds, PageEvents, PagePlan};
use super::page_format::{Detail, PageFormat, PageHead, PageIdentity, PageKind};
use super::page_request::PageRequest;
use super::refusal::Refusal;
use crate::access::{Caller, Policy};
use crate::event::paging::{StreamPage, StreamStart, is_beyond_the_head};
use crate::event::visibility::VisibleEvents;
use crate::event::{LINK_EVENT_TYPE, MAX_NUMBER, StreamName, Ticks, Visibility};
use crate::store::{EventPlace, Headings, ReadError, ReadView, StreamInfo};

/// A read of one page of a stream.
#[derive(Debug, Clone)]
pub(crate) struct ReadStream {
    /// The stream.
    pub(crate) stream: StreamName,
    /// Where the page begins, and which way it goes.
    pub(crate) start: StreamStart,
    /// What it does with links.
    pub(crate) links: Links,
    /// What every page is asked for with.
    pub(crate) page: PageRequest,
}

/// Why a page of a stream is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadStreamError {
    /// What any operation can be refused for. A page is denied, too, where the caller may not read
    /// what a link on it leads to.
    #[error(transparent)]
    Refused(Refusal),
    /// The stream is at a version that the caller knows.
    #[error("the caller knows this version of the stream")]
    Unchanged,
    /// The stream never had an event, or is soft-deleted.
    #[error("there is no such stream")]
    NotFound,
    /// The stream is hard-deleted.
    #[error("the stream is deleted")]
    Deleted,
}

impl<E: Into<Refusal>> From<E> for ReadStreamError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl Streams {
    /// Reads a page of a stream and writes it in `format`.
    ///
    /// # Errors
    /// See [`ReadStreamError`]. A denial comes before anything else that is known of the stream.
    pub(crate) async fn read_stream<F: PageFormat>(
        &self,
        caller: &Caller,
        read: ReadStream,
        format: F,
    ) -> Result<PageRead<F>, ReadStreamError> {
        self.read_barrier(read.page.barrier).await?;
        let (read, format) = (Arc::new(read), Arc::new(format));
        let mut look = self.look_at_stream(caller, &read, &format).await?;
        if let (Some(wait), StreamStart::Forward(first)) = (read.page.long_poll, read.start)
            && !look.info.tombstoned
            && !matches!(look.page, Err(ReadStreamError::Refused(Refusal::Denied)))
            && is_beyond_the_head(first, look.info.last_number)
        {
            let (store, stream) = (self.cluster.store(), read.stream.as_str());
            self.waiters.stream_grows(store, stream, look.info.last_number, wait).await?;
            look = self.look_at_stream(caller, &read, &format).await?;
        }
        let FoundPage { page, content, is_public } = look.page?;
        Ok(PageRead {
            document: self.document(content).await?,
            version: page.last_number() as i64,
            is_immutable: page.is_immutable(),
            cache_control_s: look.info.metadata.cache_control_s,
            is_public,
        })
    }

    /// Looks for the page once: in memory, or under one view of the store.
    async fn look_at_stream<F: PageFormat>(
        &self,
        caller: &Caller,
        read: &Arc<ReadStream>,
        format: &Arc<F>,
    ) -> Result<StreamLook<F>, ReadStreamError> {
        let policy = self.policy(caller).await?;
        let reader = StreamReader { read: read.clone(), format: format.clone(), policy, now: super::now() };
        let store = self.cluster.store();
        let (place, known) = store.known_stream(read.stream.as_str());
        let Some(info) = known else {
            let name = read.stream.clone();
            let look = move |view: &ReadView<'_>| reader.look(view, Arc::new(view.stream(name.as_str())?));
            let look = store.read(look).await?;
            store.remember_stream(place, read.stream.as_str(), &look.info);
            return Ok(look);
        };
        match reader.look_in_memory(&info) {
            Some(page) => Ok(StreamLook { info, page }),
            // What is known of the stream holds for this look, too: the view is not older.
            None => Ok(store.read(move |view: &ReadView<'_>| reader.look(view, info.clone())).await?),
        }
    }
}

/// What one look at the store found.
struct StreamLook<F> {
    info: Arc<StreamInfo>,
    page: Result<FoundPage<F>, ReadStreamError>,
}

struct FoundPage<F> {
    page: StreamPage,
    content: Content<F>,
    is_public: bool,
}

/// All that a look at a stream needs. It may look twice: in memory, then on disk.
struct StreamReader<F> {
    read: Arc<ReadStream>,
    format: Arc<F>,
    policy: Policy,
    now: Ticks,
}

/// A page before its events are looked up.
struct Outline {
    page: StreamPage,
    /// Older events are not shown.
    oldest: Ticks,
}

impl<F: PageFormat> StreamReader<F> {
    /// What the state of the stream alone says: which page it is, or why there is none.
    fn outline(&self, info: &StreamInfo) -> Result<Outline, ReadStreamError> {
        let read = &self.read;
        if !self.policy.may_read(read.stream.as_str(), info) {
            return Err(Refusal::Denied.into());
        }
        // The last event of a hard-deleted stream is its tombstone.
        let last = if info.tombstoned { Some(MAX_NUMBER) } else { info.last_number };
        if read.page.known_versions.contains(&last.map_or(-1, |last| last as i64)) {
            return Err(ReadStreamError::Unchanged);
        }
        let VisibleEvents { bounds, oldest } = match info.visibility(self.now) {
            Visibility::Readable(visible) => visible,
            Visibility::NotFound => return Err(ReadStreamError::NotFound),
            Visibility::Deleted => return Err(ReadStreamError::Deleted),
        };
        Ok(Outline { page: StreamPage::new(bounds, read.start, read.page.size), oldest })
    }

    /// The page, or why there is none, if nothing is needed for it that is not in memory.
    fn look_in_memory(&self, info: &StreamInfo) -> Option<Result<FoundPage<F>, ReadStreamError>> {
        let outline = match self.outline(info) {
            Ok(outline) => outline,
            Err(error) => return Some(Err(error)),
        };
        let document = self.format.recall(self.identity(info, &outline)?)?;
        let is_public = self.policy.is_public(self.read.stream.as_str(), info);
        Some(Ok(FoundPage { page: outline.page, content: Content::Small(document), is_public }))
    }

    fn look(&self, view: &ReadView<'_>, info: Arc<StreamInfo>) -> Result<StreamLook<F>, ReadError> {
        let page = match self.outline(&info) {
            Ok(outline) => self.read_events(view, &info, &outline)?,
            Err(error) => Err(error),
        };
        Ok(StreamLook { info, page })
    }

    fn read_events(
        &self,
        view: &ReadView<'_>,
        info: &StreamInfo,
        outline: &Outline,
    ) -> Result<Result<FoundPage<F>, ReadStreamError>, ReadError> {
        let Outline { page, oldest } = *outline;
        let (stream, direction) = (self.read.stream.as_str(), self.read.start.direction());
        let EventPlaces { places, headings, may_have_links } = self.find_events(view, info, &page)?;
        let plan = PagePlan {
            events: PageEvents::Places(places),
            format: self.format.clone(),
            links: self.read.links,
            may_have_links,
            oldest,
            now: self.now,
            policy: self.policy.clone(),
        };
        let head = |ends: PageEnds| PageHead {
            page: PageKind::Stream { name: stream, head: page.head(ends.lowest) },
            updated: ends.updated,
        };
        let by_headings = match headings {
            Some(headings) => plan.begin_by_headings(view, stream, &headings, direction, head)?,
            None => None,
        };
        let (beginning, access) = match by_headings {
            Some(begun) => begun,
            None => plan.begin(view, direction, head)?,
        };
        if access == LinkAccess::Denied {
            return Ok(Err(Refusal::Denied.into()));
        }
        let content = match beginning {
            Beginning::Whole { document, is_without_links } => {
                let identity = self.identity(info, outline).filter(|_| is_without_links);
                Content::Small(match identity {
                    Some(identity) => self.format.offer(identity, document),
                    None => document.into(),
                })
            }
            Beginning::Head(head) => Content::Large { head, plan },
        };
        let is_public = access == LinkAccess::Public && self.policy.is_public(stream, info);
        Ok(Ok(FoundPage { page, content, is_public }))
    }

    /// Where the events of the page are, and what the index says of them where that is wanted.
    fn find_events(&self, view: &ReadView<'_>, info: &StreamInfo, page: &StreamPage) -> Result<EventPlaces, ReadError> {
        let (Some(id), Some(numbers)) = (info.id, page.numbers()) else { return Ok(EventPlaces::none()) };
        let (places, headings) = match self.format.detail() {
            Detail::Heading => view.places_and_headings(id, numbers.clone())?,
            Detail::Description | Detail::Payload => (view.places(id, numbers.clone())?, None),
        };
        let may_have_links = match &headings {
            _ if !page::is_large(&places) => true,
            Some(headings) => has_links(headings),
            // The head of a large page is sent before its rows are read; the index tells the types,
            // where it has them.
            None => view.places_and_headings(id, numbers)?.1.as_ref().is_none_or(has_links),
        };
        Ok(EventPlaces { places, headings, may_have_links })
    }

    /// All that the document of the page depends on; `None` when that is more than its numbers: the
    /// time of day, or that there are no events.
    fn identity(&self, info: &StreamInfo, outline: &Outline) -> Option<PageIdentity> {
        let numbers = outline.page.numbers()?;
        if outline.oldest != Ticks(0) {
            return None;
        }
        let (lowest, highest) = numbers.into_inner();
        Some(PageIdentity {
            stream_id: info.id?,
            numbers: (lowest, highest),
            head: outline.page.head(Some(lowest)),
            links: self.read.links,
        })
    }
}

/// The events of a page in the index.
struct EventPlaces {
    places: Vec<EventPlace>,
    headings: Option<Headings>,
    /// False when it is known that none of them is a link.
    may_have_links: bool,
}

impl EventPlaces {
    fn none() -> Self {
        Self { places: Vec::new(), headings: None, may_have_links: true }
    }
}

fn has_links(headings: &Headings) -> bool {
    headings.events("").any(|event| event.event_type == LINK_EVENT_TYPE)
}
