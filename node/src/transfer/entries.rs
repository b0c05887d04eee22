//! Entries of an EventStore's pages as events, with what the page does not show.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{StreamExt, TryStreamExt};
use reqwest::StatusCode;
use reqwest::header::{HeaderName, HeaderValue};
use uuid::Uuid;

use super::error::TransferError;
use super::pages::{Entry, Page, encode};
use super::source::Batch;
use crate::client::{Call, Client, ClientError};
use crate::event::{EventNumber, MAX_NUMBER, RecordedEvent, Ticks};
use crate::ndjson::parse_time;

/// Events whose bytes are asked for at the same time.
const EVENTS_AT_ONCE: usize = 8;

/// A follower of the old server may be behind: only the master has all that was acknowledged.
const REQUIRE_MASTER: HeaderName = HeaderName::from_static("es-requiremaster");
const RESOLVE_LINKS: HeaderName = HeaderName::from_static("es-resolvelinktos");
const FEED: &str = "application/vnd.eventstore.atom+json";

/// Reads pages and events of a server.
pub(super) struct Entries {
    client: Client,
    /// Whether its pages show what links lead to, whatever they are asked for: those of the log.
    follows_links: bool,
}

impl Entries {
    pub(super) fn new(client: Client, follows_links: bool) -> Self {
        Self { client, follows_links }
    }

    /// A page. Links are shown as they are stored, where the server can do that.
    pub(super) async fn page(&self, path: &str, embed: &str) -> Result<Page, TransferError> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let call = raw(format!("{path}{separator}embed={embed}")).accept(FEED);
        let answer = self.client.send(&call).await?;
        serde_json::from_slice(&answer).map_err(|error| TransferError::Answer {
            node: self.client.name().to_owned(),
            expected: "feed in JSON",
            reason: error.to_string(),
        })
    }

    /// The same; `None` when the stream is deleted, or was never there.
    pub(super) async fn page_if_any(&self, path: &str) -> Result<Option<Page>, TransferError> {
        match self.page(path, "body").await {
            Ok(page) => Ok(Some(page)),
            Err(TransferError::Client(error)) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds events to the batch: entries in the order of the page at `path`, and events that need
    /// nothing more.
    pub(super) async fn events(
        &self,
        entries: Vec<Result<RecordedEvent, Entry>>,
        path: &str,
        batch: &mut Batch,
    ) -> Result<(), TransferError> {
        // A boxed future each: the compiler cannot tell yet that an async closure may change
        // threads.
        let looked_up = entries.into_iter().map(|entry| self.looked_up(entry, path));
        let found: Vec<(RecordedEvent, Option<String>)> =
            futures::stream::iter(looked_up).buffered(EVENTS_AT_ONCE).try_collect().await?;
        for (event, remark) in found {
            batch.events.push(event);
            batch.remarks.extend(remark);
        }
        Ok(())
    }

    fn looked_up<'a>(
        &'a self,
        entry: Result<RecordedEvent, Entry>,
        path: &'a str,
    ) -> BoxFuture<'a, Result<(RecordedEvent, Option<String>), TransferError>> {
        match entry {
            Ok(event) => Box::pin(std::future::ready(Ok((event, None)))),
            Err(entry) => Box::pin(self.event(entry, path)),
        }
    }

    /// An event, and what there is to say about it.
    async fn event(&self, entry: Entry, path: &str) -> Result<(RecordedEvent, Option<String>), TransferError> {
        let mut event = without_payload(&entry);
        let mut remark = None;
        let is_shown = entry.is_json || event.number == MAX_NUMBER;
        let data = if is_shown { entry.data } else { None };
        event.data = match data {
            Some(text) => text.into(),
            None if is_shown => Bytes::new(),
            None => match self.bytes_of(&event.stream, event.number).await? {
                Some(bytes) => bytes,
                None => {
                    let (stream, number) = (&event.stream, event.number);
                    remark = Some(format!(
                        "{number}@{stream} can no longer be read by itself; its data are taken from their text, which is \
                         the same unless they were no UTF-8 or a JSON object"
                    ));
                    self.text_of(path, stream, number).await?
                }
            },
        };
        event.metadata = entry.meta_data.unwrap_or_default().into();
        let has_replaced = |bytes: &[u8]| bytes.windows(3).any(|bytes| bytes == "\u{fffd}".as_bytes());
        if remark.is_none() && (has_replaced(&event.metadata) || (is_shown && has_replaced(&event.data))) {
            remark = Some(format!(
                "{}@{} has U+FFFD: the server may have put it in place of other bytes",
                event.number, event.stream
            ));
        }
        Ok((event, remark))
    }

    /// The data of an event; `None` when no reader can see it any more.
    async fn bytes_of(&self, stream: &str, number: EventNumber) -> Result<Option<Bytes>, TransferError> {
        let call = raw(format!("/streams/{}/{number}", encode(stream))).accept("application/octet-stream");
        match self.client.send(&call).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The text of data that are not JSON, from the page where the event stands.
    async fn text_of(&self, path: &str, stream: &str, number: EventNumber) -> Result<Bytes, TransferError> {
        let page = self.page(path, "tryharder").await?;
        let is_it = |entry: &Entry| entry.stream_id == stream && entry.number() == number && !entry.is_of_link();
        let text = page.entries.into_iter().find(is_it).and_then(|entry| entry.data);
        Ok(text.unwrap_or_default().into())
    }

    /// See the field.
    pub(super) fn follows_links(&self) -> bool {
        self.follows_links
    }
}

/// A request for all that is stored, not for what links lead to.
fn raw(path: String) -> Call {
    let (yes, no) = (HeaderValue::from_static("true"), HeaderValue::from_static("false"));
    Call::get(path).header(RESOLVE_LINKS, no).header(REQUIRE_MASTER, yes)
}

fn is_gone(error: &ClientError) -> bool {
    matches!(error.status(), Some(StatusCode::NOT_FOUND | StatusCode::GONE))
}

/// What an entry says of an event besides data and metadata.
pub(super) fn without_payload(entry: &Entry) -> RecordedEvent {
    let is_of_link = entry.is_of_link();
    RecordedEvent {
        position: 0,
        stream: entry.position_stream_id.clone(),
        number: if is_of_link { entry.position_event_number } else { entry.number() },
        // That of what the link leads to is another one.
        event_id: entry.event_id.filter(|_| !is_of_link).unwrap_or(Uuid::nil()),
        event_type: entry.event_type.clone(),
        is_json: entry.is_json && !is_of_link,
        time: parse_time(&entry.updated).unwrap_or(Ticks(0)),
        data: Bytes::new(),
        metadata: Bytes::new(),
    }
}
