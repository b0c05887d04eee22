//! A Headwater as a source: pages of `/admin/export`.

use reqwest::StatusCode;

use super::error::TransferError;
use super::source::{Batch, Place, Selection};
use crate::client::{Call, Client, ClientError};
use crate::ndjson::{self, Ends, Line, Page};

/// Reads the lines of a server.
pub(super) struct HeadwaterSource {
    client: Client,
    /// What is exported, as the end of a query.
    query: String,
    next: u64,
    /// How far the streams were looked at for lost ends.
    ends: EndsLookedAt,
}

/// See [`HeadwaterSource::ends`].
enum EndsLookedAt {
    /// Up to this stream.
    After(String),
    All,
}

impl HeadwaterSource {
    /// Whether the server has the route.
    pub(super) async fn speaks(client: &Client) -> Result<bool, ClientError> {
        match client.send(&Call::get(format!("/admin/export?from={}", u64::MAX))).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn new(client: Client, selection: Selection) -> Self {
        let query = match selection {
            Selection::All => String::new(),
            Selection::Stream(name) => format!("&stream={}", super::pages::encode(&name)),
            Selection::Filter(query) => format!("&{query}"),
        };
        Self { client, query, next: 0, ends: EndsLookedAt::After(String::new()) }
    }

    pub(super) fn resume(&mut self, position: u64) {
        self.next = position;
    }

    pub(super) async fn next(&mut self) -> Result<Batch, TransferError> {
        let answer = self.client.send(&Call::get(format!("/admin/export?from={}{}", self.next, self.query))).await?;
        let mut batch = Batch::default();
        for line in answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match ndjson::parse(line) {
                Ok(Line::Event(event)) => batch.events.push(event),
                Ok(Line::Page(Page { next, end })) => {
                    self.next = next;
                    batch.next = Some(Place::Position(next));
                    batch.is_at_head = next >= end;
                    (batch.reached, batch.end) = (next, Some(end));
                    return Ok(batch);
                }
                Ok(_) => return Err(self.wrong("it has a line of another kind".to_owned())),
                Err(error) => return Err(self.wrong(error.to_string())),
            }
        }
        Err(self.wrong("it is cut off".to_owned()))
    }

    pub(super) async fn next_ends(&mut self) -> Result<Option<Batch>, TransferError> {
        let EndsLookedAt::After(after) = &self.ends else { return Ok(None) };
        let path = format!("/admin/export?ends-after={}{}", super::pages::encode(after), self.query);
        let answer = self.client.send(&Call::get(path)).await?;
        let mut batch = Batch::default();
        for line in answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match ndjson::parse(line) {
                Ok(Line::Next(next)) => batch.ends.push(next),
                Ok(Line::Ends(Ends { after })) => {
                    self.ends = after.map_or(EndsLookedAt::All, EndsLookedAt::After);
                    return Ok(Some(batch));
                }
                Ok(_) => return Err(self.wrong("it has a line of another kind".to_owned())),
                Err(error) => return Err(self.wrong(error.to_string())),
            }
        }
        Err(self.wrong("it is cut off".to_owned()))
    }

    fn wrong(&self, reason: String) -> TransferError {
        TransferError::Answer { node: self.client.name().to_owned(), expected: "page of events", reason }
    }
}
