//! Pages of a stream (contract/streams 8), of the log of all events (contract/streams 10), and of
//! what a filter leaves of it (contract/streams 17). They are read in one way: a look at the source
//! finds and writes the page, a long poll waits and looks again, and what is large follows in
//! parts.

use std::sync::Arc;

use super::Streams;
use super::document::{Content, Document, LargePage, PageFacts, PageRead, ReadPageError};
use super::filter::Filter;
use super::links::Links;
use super::page_format::PageFormat;
use super::page_look::{FoundPage, Looked, PageLook, PageReader, PageTarget};
use super::page_request::PageRequest;
use super::source::Source;
use crate::access::Caller;
use crate::budget::{Exhausted, Reservation};
use crate::event::StreamName;
use crate::store::{EventPlace, ReadView};
use crate::timing::{self, Phase};

impl Streams {
    /// Reads a page of a stream and writes it in `format`.
    ///
    /// # Errors
    /// See [`ReadPageError`]. A denial comes before anything else that is known of the stream.
    pub(crate) async fn read_stream<F: PageFormat>(
        &self,
        caller: &Caller,
        stream: StreamName,
        links: Links,
        page: PageRequest,
        format: F,
    ) -> Result<PageRead<F>, ReadPageError> {
        self.read_page(caller, Source::Stream { name: stream, links }, page, format).await
    }

    /// Reads a page of the log, or of what `filter` leaves of it, and writes it in `format`.
    ///
    /// # Errors
    /// See [`ReadPageError`]. A denial comes before anything else that is known of the log.
    pub(crate) async fn read_all<F: PageFormat>(
        &self,
        caller: &Caller,
        filter: Option<Filter>,
        links: Links,
        page: PageRequest,
        format: F,
    ) -> Result<PageRead<F>, ReadPageError> {
        self.read_page(caller, Source::Log { filter: filter.map(Arc::new), links }, page, format).await
    }

    async fn read_page<F: PageFormat>(
        &self,
        caller: &Caller,
        source: Source,
        page: PageRequest,
        format: F,
    ) -> Result<PageRead<F>, ReadPageError> {
        self.read_barrier(page.barrier).await?;
        let target = Arc::new(PageTarget { source, page });
        // Held until the page is found.
        let _memory = self.filters.hold(target.source.filter()).await?;
        let format = Arc::new(format);
        let mut look = self.look_for_page(caller, &target, &format).await?;
        if let Some(poll) = &target.page.long_poll
            && look.awaits_events
        {
            let (source, end) = (target.clone(), look.end);
            // Thousands wait, and each has an access list and a page with names that may be long.
            drop(look);
            let has_grown = move |view: &ReadView<'_>| Ok(source.source.state(view)?.end > end);
            let news = timing::phase(Phase::News);
            self.waiters.wait_for(self.cluster.store(), target.source.watched(), has_grown, poll).await?;
            drop(news);
            look = self.look_for_page(caller, &target, &format).await?;
        }
        let FoundPage { content, facts } = look.page?;
        match content {
            Content::Small(document) => Ok(PageRead { document: Document::Small(document), facts }),
            // On the heap, because most pages are small, and thousands may wait.
            Content::Large(page) => Box::pin(self.read_large(caller, &target, &format, page, facts)).await,
        }
    }

    /// Memory for the places that a search finds: thousands of searches may take turns.
    fn places_of_search(&self, target: &PageTarget) -> Result<Option<Reservation>, Exhausted> {
        if target.source.filter().is_none() {
            return Ok(None);
        }
        let bytes = target.page.size.get() as usize * size_of::<EventPlace>();
        self.places.try_reserve(bytes).map(Some).ok_or(Exhausted)
    }

    /// Reads the rest of a large page once there is memory for it. A page that has to wait for that
    /// is found anew: its beginning and the places of its events take hundreds of KiB.
    async fn read_large<F: PageFormat>(
        &self,
        caller: &Caller,
        target: &Arc<PageTarget>,
        format: &Arc<F>,
        page: LargePage<F>,
        facts: PageFacts,
    ) -> Result<PageRead<F>, ReadPageError> {
        let (page, facts, memory) = match self.try_answer_memory() {
            Some(memory) => (page, facts, memory),
            None => {
                drop(page);
                let memory = self.answer_memory().await?;
                let FoundPage { content, facts } = self.look_for_page(caller, target, format).await?.page?;
                match content {
                    Content::Small(document) => return Ok(PageRead { document: Document::Small(document), facts }),
                    Content::Large(page) => (page, facts, memory),
                }
            }
        };
        let document = self.large_document(caller, &target.source, page, memory).await?;
        Ok(PageRead { document, facts })
    }

    /// Looks for the page once: in memory, or under a view of the store. A search may take several
    /// views; others have their turn between two, and the right is asked for again under each.
    async fn look_for_page<F: PageFormat>(
        &self,
        caller: &Caller,
        target: &Arc<PageTarget>,
        format: &Arc<F>,
    ) -> Result<PageLook<F>, ReadPageError> {
        let _phase = timing::phase(Phase::Read);
        let store = self.cluster.store();
        let (source, mut search) = (&target.source, None);
        let _places = self.places_of_search(target)?;
        loop {
            let (target, format, policy) = (target.clone(), format.clone(), self.policy(caller).await?);
            let reader = PageReader { target, format, policy, now: super::now() };
            let (state, place) = source.known(store);
            if let Some(state) = &state
                && let Some(look) = reader.look_in_memory(state)
            {
                return Ok(look);
            }
            let begun = search.take();
            let look = move |view: &ReadView<'_>| {
                let state = match &state {
                    Some(state) => state.clone(),
                    None => reader.target.source.state(view)?,
                };
                reader.look(view, state, begun.clone())
            };
            match self.filters.read(source.filter(), store, look).await? {
                Looked::Done(look, state) => {
                    if let Some(place) = place {
                        store.remember_stream(place, source.stream(), &state.info);
                    }
                    return Ok(look);
                }
                Looked::Unfinished(begun) => search = Some(begun),
            }
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
#[path = "tests/read_page.rs"]
mod tests;
