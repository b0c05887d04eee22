//! The node into which events are imported.

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::TransferError;
use super::pages::encode;
use super::skip::USERS;
use super::source::Place;
use crate::client::{Call, Client, Repeat};
use crate::event::RecordedEvent;
use crate::ndjson::{self, MEDIA_TYPE, NextNumber, Progress};

/// What the target notes with every batch, as the last event of the stream of the import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// The server that the events come from.
    pub(super) source: String,
    /// Where it goes on.
    pub(super) next: Place,
    /// Events copied so far.
    pub(super) events: u64,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Counts {
    /// Events that were stored.
    pub(super) stored: u64,
    /// Events that had been there.
    pub(super) present: u64,
}

/// Sends events to a node.
pub(super) struct Target {
    client: Client,
    /// Stream of the notes; `None` when nothing is noted.
    stream: Option<String>,
    buffer: Vec<u8>,
}

/// A metadata document: only the newest note counts.
const KEEP_NEWEST: &[u8] = br#"{"$maxCount":1}"#;

impl Target {
    /// A node; `name` is that of the import, if it can go on where it was.
    pub(super) fn new(client: Client, name: Option<&str>) -> Self {
        Self { client, stream: name.map(|name| format!("$import-{name}")), buffer: Vec::new() }
    }

    /// The newest note of this import. The first look prepares the stream.
    pub(super) async fn note(&self) -> Result<Option<Note>, TransferError> {
        let Some(stream) = &self.stream else { return Ok(None) };
        let path = format!("/streams/{}/head", encode(stream));
        let call = Call::get(path).accept("application/json");
        match self.client.send(&call).await {
            Ok(answer) => {
                let wrong = |error: serde_json::Error| TransferError::Answer {
                    node: self.client.name().to_owned(),
                    expected: "note about an import",
                    reason: error.to_string(),
                };
                serde_json::from_slice(&answer).map(Some).map_err(wrong)
            }
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                self.keep_newest_note(stream).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn keep_newest_note(&self, stream: &str) -> Result<(), TransferError> {
        // A new id each time: the stream may have been deleted since the last time.
        let id = Uuid::new_v4();
        let call = Call::post(format!("/streams/{}/metadata", encode(stream)), Repeat::Safe)
            .body("application/json", KEEP_NEWEST)
            .header(EVENT_ID, header(&id.to_string()));
        self.client.send(&call).await?;
        Ok(())
    }

    /// Stores events, and with them where the source goes on, together or not at all.
    pub(super) async fn store(
        &mut self,
        events: &[RecordedEvent],
        ends: &[NextNumber],
        note: Option<&Note>,
    ) -> Result<Counts, TransferError> {
        self.buffer.clear();
        for event in events {
            ndjson::push_event(&mut self.buffer, event.borrowed());
        }
        for next in ends {
            ndjson::push_next(&mut self.buffer, next);
        }
        if let (Some(stream), Some(note)) = (&self.stream, note) {
            // A note is always JSON.
            let document = serde_json::to_vec(note).unwrap_or_default().into();
            ndjson::push_progress(&mut self.buffer, &Progress { stream: stream.clone(), document });
        }
        let body = Bytes::copy_from_slice(&self.buffer);
        let answer = self.client.send(&Call::post("/admin/import", Repeat::Safe).body(MEDIA_TYPE, body)).await?;
        serde_json::from_slice(&answer).map_err(|error| TransferError::Answer {
            node: self.client.name().to_owned(),
            expected: "count of events",
            reason: error.to_string(),
        })
    }

    /// Adds a user to the list of users. Repeating it is exact: the event has its id.
    pub(super) async fn list_user(&self, event: &RecordedEvent) -> Result<(), TransferError> {
        let call = Call::post(format!("/streams/{}", encode(USERS)), Repeat::Safe)
            .body("application/octet-stream", event.data.clone())
            .header(EVENT_ID, header(&event.event_id.to_string()))
            .header(EVENT_TYPE, header(&event.event_type));
        self.client.send(&call).await?;
        Ok(())
    }
}

const EVENT_ID: HeaderName = HeaderName::from_static("es-eventid");
const EVENT_TYPE: HeaderName = HeaderName::from_static("es-eventtype");

/// Of a text that fits into a header, such as an id or one of the types of this program.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("$User"))
}
