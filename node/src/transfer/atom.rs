//! An EventStore as a source: forward pages of `$all`, of a stream or of a filter.
//!
//! `embed=body` shows data and metadata of JSON events as they are stored. What it does not show is
//! asked for one by one ([`super::entries`]), and so are links, which `$all` always follows
//! ([`super::links`]).

use futures::future::BoxFuture;
use futures::stream::{StreamExt, TryStreamExt};

use super::entries::Entries;
use super::error::TransferError;
use super::links::Links;
use super::pages::{Entry, Page, encode};
use super::skip::reason_of_stream;
use super::source::{Batch, Own, Place, Selection};
use super::truncated::Truncated;
use crate::client::Client;
use crate::event::{EventNumber, LINK_EVENT_TYPE, RecordedEvent, StreamNameRef};
use crate::ndjson::NextNumber;

/// Events of a page. The old server reads them one after the other.
const PAGE_EVENTS: usize = 512;

/// Streams that are asked for their last numbers at the same time, and in one batch.
const STREAMS_AT_ONCE: usize = 8;
const STREAMS_OF_A_BATCH: usize = 1_024;

/// The beginning of the log.
const BEGINNING: &str = "00000000000000000000000000000000";

/// Follows the feeds of a server.
pub(super) struct AtomSource {
    entries: Entries,
    links: Links,
    truncated: Truncated,
    /// Truncated streams that are still to be asked for, at the end of a run.
    emptied: Option<Vec<(String, EventNumber)>>,
    own: Own,
    /// Path and query of the next page.
    path: String,
    /// Of the log, so that there are positions.
    has_positions: bool,
    end: Option<u64>,
}

impl AtomSource {
    pub(super) fn new(client: Client, selection: Selection, own: Own) -> Self {
        let (path, has_positions) = match &selection {
            Selection::All => (format!("/streams/%24all/{BEGINNING}/forward/{PAGE_EVENTS}"), true),
            Selection::Filter(query) => {
                (format!("/streams/%24all/filtered/{BEGINNING}/forward/{PAGE_EVENTS}?{query}"), true)
            }
            Selection::Stream(name) => (format!("/streams/{}/0/forward/{PAGE_EVENTS}", encode(name)), false),
        };
        let follows_links = has_positions;
        Self {
            entries: Entries::new(client, follows_links),
            links: Links::default(),
            truncated: Truncated::default(),
            emptied: None,
            own,
            path,
            has_positions,
            end: None,
        }
    }

    pub(super) fn resume(&mut self, path: String) {
        self.path = path;
    }

    pub(super) async fn next(&mut self) -> Result<Batch, TransferError> {
        let page = self.entries.page(&self.path, "body").await?;
        let behind = page.link("previous");
        let mut batch = Batch { is_at_head: behind.is_none(), ..Batch::default() };
        self.take(page, &mut batch).await?;
        if batch.is_at_head {
            self.links.tails(&self.entries, &mut batch).await?;
        }
        batch.events.iter().for_each(|event| self.truncated.look_at(event));
        if let Some(path) = behind {
            self.path = without_embed(&path);
        }
        batch.next = Some(Place::Page(self.path.clone()));
        if self.has_positions {
            batch.reached = position(&self.path).unwrap_or_default();
            batch.end = self.end_of_log(batch.reached).await?;
        }
        Ok(batch)
    }

    pub(super) async fn next_ends(&mut self) -> Result<Option<Batch>, TransferError> {
        // A filter may have left out the events.
        if !self.has_positions || self.path.contains("/filtered/") {
            return Ok(None);
        }
        let emptied = self.emptied.get_or_insert_with(|| self.truncated.take());
        if emptied.is_empty() {
            return Ok(None);
        }
        let streams = emptied.split_off(emptied.len().saturating_sub(STREAMS_OF_A_BATCH));
        let asked = streams.into_iter().map(|(stream, before)| Self::next_number(&self.entries, stream, before));
        let ends = futures::stream::iter(asked).buffered(STREAMS_AT_ONCE).try_collect().await?;
        Ok(Some(Batch { ends, ..Batch::default() }))
    }

    /// Where a truncated stream goes on: behind its last event, or where its metadata say that it
    /// begins.
    fn next_number(
        entries: &Entries,
        stream: String,
        before: EventNumber,
    ) -> BoxFuture<'_, Result<NextNumber, TransferError>> {
        Box::pin(async move {
            let path = format!("/streams/{}/head/backward/1", encode(&stream));
            let last = entries.page_if_any(&path).await?.and_then(|page| page.last_number());
            Ok(NextNumber { stream, next: last.map_or(before, |last| last + 1) })
        })
    }

    /// The events of a page, oldest first.
    async fn take(&mut self, page: Page, batch: &mut Batch) -> Result<(), TransferError> {
        // What has to be asked for one by one is asked for together.
        let mut plain = Vec::new();
        for entry in page.entries.into_iter().rev() {
            if let Some(event) = self.named_only(&entry) {
                plain.push(Ok(event));
            } else if entry.event_id.is_none() {
                self.links.unresolved(&entry);
            } else if entry.is_of_link() || self.links.knows(&entry.position_stream_id) {
                self.entries.events(std::mem::take(&mut plain), &self.path, batch).await?;
                self.links.take(entry, &self.entries, &self.path, batch).await?;
            } else {
                plain.push(Err(entry));
            }
        }
        self.entries.events(plain, &self.path, batch).await
    }

    /// An event that will be left out, with nothing that would have to be looked up.
    fn named_only(&self, entry: &Entry) -> Option<RecordedEvent> {
        let name = StreamNameRef::new(&entry.position_stream_id);
        let described = name.described().unwrap_or(name).as_str();
        if self.own == Own::Whole || reason_of_stream(described).is_none() {
            return None;
        }
        let mut event = super::entries::without_payload(entry);
        if entry.is_of_link() {
            event.event_type = LINK_EVENT_TYPE.to_owned();
        }
        Some(event)
    }

    /// Where the log ends, as far as it is known; asked again when it was passed.
    async fn end_of_log(&mut self, reached: u64) -> Result<Option<u64>, TransferError> {
        if self.end.is_none_or(|end| reached >= end) {
            let head = self.entries.page("/streams/%24all/head/backward/1", "none").await?;
            self.end = head.link("previous").as_deref().and_then(position).or(Some(reached));
        }
        Ok(self.end.max(Some(reached)))
    }
}

/// The position in the path of a page of the log.
fn position(path: &str) -> Option<u64> {
    let digits = path
        .split(['/', '?'])
        .find(|part| part.len() == BEGINNING.len() && part.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u64::from_str_radix(&digits[..BEGINNING.len() / 2], 16).ok()
}

/// Some servers repeat the query in their links.
fn without_embed(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    let rest: Vec<&str> = query.split('&').filter(|part| !part.starts_with("embed=")).collect();
    if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_paths_of_pages() {
        let path = "/streams/%24all/000000000000000A000000000000000B/forward/5?embed=body&context=streamid";
        assert_eq!(position(path), Some(10));
        assert_eq!(position("/streams/s/0/forward/5"), None);
        assert_eq!(without_embed(path), "/streams/%24all/000000000000000A000000000000000B/forward/5?context=streamid");
        assert_eq!(without_embed("/a?embed=body"), "/a");
    }
}
