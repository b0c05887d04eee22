//! Events as lines of JSON: files of exports, and what `/admin/export` and `/admin/import` carry
//! (docs/http-api.md, "Lines of events").
//!
//! Every event is exact. Data and metadata stand in a line in one of three forms ([`payload`]);
//! which one never changes a byte of them.

mod payload;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::Write as _;

use bytes::Bytes;
use jiff::Timestamp;
use payload::Payload;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::event::{EventRef, RecordedEvent, Ticks};

/// Version of the lines. A reader refuses a later one.
pub(crate) const VERSION: u64 = 1;

/// Media type of lines of JSON.
pub(crate) const MEDIA_TYPE: &str = "application/x-ndjson";

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Line {
    /// The first line of a file.
    Header(Header),
    /// An event. Its position is that of the log it comes from; 0 if unknown.
    Event(RecordedEvent),
    /// The number at which a stream goes on whose last events are gone.
    Next(NextNumber),
    /// The last line of a page of `/admin/export`.
    Page(Page),
    /// The last line of a page of such streams.
    Ends(Ends),
    /// In an import: how far it has come with the events before this line.
    Progress(Progress),
    /// The last line of a file: without it, the file was cut off.
    End(End),
}

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Header {
    /// Version of the lines.
    pub(crate) headwater_export: u64,
    /// Where the events come from.
    pub(crate) source: String,
    /// What of it was exported: `$all`, a stream, or the query of a filter.
    pub(crate) selection: String,
}

/// Where the next page begins, and where the log, or the stream, ended when this one was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// Position, or number in a stream.
    pub(crate) next: u64,
    /// The same.
    pub(crate) end: u64,
}

/// Where a stream goes on whose last events are gone, for instance by a scavenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NextNumber {
    /// The stream.
    pub(crate) stream: String,
    /// The number of its next event, above 0.
    pub(crate) next: u64,
}

/// How far the streams of a server were looked at, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ends {
    /// The last one; `None` when there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<String>,
}

/// How far an import has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Stream of the note.
    pub(crate) stream: String,
    /// JSON.
    pub(crate) document: Bytes,
}

/// The end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    /// Events in the file.
    pub(crate) events: u64,
}

/// A line that is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// It is not JSON, or has other fields.
    #[error("it is not a line of an export: {0}")]
    Json(#[from] serde_json::Error),
    /// It is an event without something that events have, or no known line at all.
    #[error("it lacks {0}")]
    Lacks(&'static str),
    /// Something in it is not what it should be.
    #[error("{0} is not valid")]
    Invalid(&'static str),
    /// It is of a later version of the format.
    #[error("it is of version {0} of the format, and this program knows versions up to {VERSION}")]
    Version(u64),
}

/// All fields of all lines.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow, default)]
    stream: Option<Cow<'a, str>>,
    number: Option<u64>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(rename = "type", borrow, default)]
    event_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    time: Option<Cow<'a, str>>,
    #[serde(default)]
    position: u64,
    #[serde(default)]
    is_json: bool,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    data_text: Option<String>,
    data_base64: Option<String>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    metadata_text: Option<String>,
    metadata_base64: Option<String>,
    headwater_export: Option<u64>,
    source: Option<String>,
    selection: Option<String>,
    next: Option<u64>,
    page: Option<Page>,
    ends: Option<Ends>,
    #[serde(borrow, default)]
    progress: Option<ProgressFields<'a>>,
    end: Option<End>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgressFields<'a> {
    stream: String,
    #[serde(borrow)]
    document: &'a RawValue,
}

/// Reads a line.
///
/// # Errors
/// See [`LineError`].
pub(crate) fn parse(line: &[u8]) -> Result<Line, LineError> {
    let fields: Fields<'_> = match serde_json::from_slice(line) {
        Ok(fields) => fields,
        Err(error) => return Err(version_of(line).map_or(LineError::Json(error), LineError::Version)),
    };
    if let Some(version) = fields.headwater_export {
        if version > VERSION {
            return Err(LineError::Version(version));
        }
        let (source, selection) = (fields.source.unwrap_or_default(), fields.selection.unwrap_or_default());
        return Ok(Line::Header(Header { headwater_export: version, source, selection }));
    }
    if let Some(page) = fields.page {
        return Ok(Line::Page(page));
    }
    if let Some(end) = fields.end {
        return Ok(Line::End(end));
    }
    if let Some(ends) = fields.ends {
        return Ok(Line::Ends(ends));
    }
    if let Some(next) = fields.next {
        if fields.id.is_some() || fields.number.is_some() {
            return Err(LineError::Invalid("`next` beside an event"));
        }
        let stream = fields.stream.ok_or(LineError::Lacks("a stream"))?.into_owned();
        return Ok(Line::Next(NextNumber { stream, next }));
    }
    if let Some(ProgressFields { stream, document }) = fields.progress {
        let document = Bytes::copy_from_slice(document.get().as_bytes());
        return Ok(Line::Progress(Progress { stream, document }));
    }
    event(fields).map(Line::Event)
}

/// The version of a header that is too new for this program, whatever else it has.
fn version_of(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct AnyVersion {
        headwater_export: u64,
    }
    let header: AnyVersion = serde_json::from_slice(line).ok()?;
    (header.headwater_export > VERSION).then_some(header.headwater_export)
}

fn event(fields: Fields<'_>) -> Result<RecordedEvent, LineError> {
    let id = fields.id.ok_or(LineError::Lacks("an id"))?;
    let time = fields.time.ok_or(LineError::Lacks("a time"))?;
    let data = Payload { json: fields.data, text: fields.data_text, base64: fields.data_base64 };
    let metadata = Payload { json: fields.metadata, text: fields.metadata_text, base64: fields.metadata_base64 };
    Ok(RecordedEvent {
        position: fields.position,
        stream: fields.stream.ok_or(LineError::Lacks("a stream"))?.into_owned(),
        number: fields.number.ok_or(LineError::Lacks("a number"))?,
        event_id: Uuid::try_parse(&id).map_err(|_| LineError::Invalid("its id"))?,
        event_type: fields.event_type.ok_or(LineError::Lacks("a type"))?.into_owned(),
        is_json: fields.is_json,
        time: parse_time(&time).ok_or(LineError::Invalid("its time"))?,
        data: data.into_bytes().ok_or(LineError::Invalid("its data"))?,
        metadata: metadata.into_bytes().ok_or(LineError::Invalid("its metadata"))?,
    })
}

/// A time as it stands in feeds and lines.
pub(crate) fn parse_time(text: &str) -> Option<Ticks> {
    let timestamp: Timestamp = text.parse().ok()?;
    u64::try_from(timestamp.as_nanosecond() / NANOSECONDS_PER_TICK).ok().map(Ticks)
}

const NANOSECONDS_PER_TICK: i128 = 100;

/// Appends the line of an event.
pub(crate) fn push_event(out: &mut Vec<u8>, event: EventRef<'_>) {
    out.extend_from_slice(b"{\"stream\":");
    push_text(out, event.stream);
    // Writing to a Vec cannot fail.
    let _ = write!(out, ",\"number\":{},\"id\":\"{}\",\"type\":", event.number, event.event_id.as_hyphenated());
    push_text(out, event.event_type);
    match Timestamp::from_nanosecond(i128::from(event.time.0) * NANOSECONDS_PER_TICK) {
        Ok(time) => drop(write!(out, ",\"time\":\"{time}\"")),
        // Beyond the year 9999, which no clock shows.
        Err(_) => drop(write!(out, ",\"time\":\"{}\"", event.time)),
    }
    let _ = write!(out, ",\"position\":{}", event.position);
    if event.is_json {
        out.extend_from_slice(b",\"isJson\":true");
    }
    payload::push(out, "data", event.data);
    payload::push(out, "metadata", event.metadata);
    out.extend_from_slice(b"}\n");
}

/// Appends the first line of a file.
pub(crate) fn push_header(out: &mut Vec<u8>, header: &Header) {
    push_document(out, header);
}

/// Appends the last line of a page.
pub(crate) fn push_page(out: &mut Vec<u8>, page: Page) {
    #[derive(Serialize)]
    struct Wrapped {
        page: Page,
    }
    push_document(out, &Wrapped { page });
}

/// Appends the number at which a stream goes on.
pub(crate) fn push_next(out: &mut Vec<u8>, next: &NextNumber) {
    push_document(out, next);
}

/// Appends the last line of a page of such numbers.
pub(crate) fn push_ends(out: &mut Vec<u8>, ends: &Ends) {
    #[derive(Serialize)]
    struct Wrapped<'a> {
        ends: &'a Ends,
    }
    push_document(out, &Wrapped { ends });
}

/// Appends the last line of a file.
pub(crate) fn push_end(out: &mut Vec<u8>, end: End) {
    #[derive(Serialize)]
    struct Wrapped {
        end: End,
    }
    push_document(out, &Wrapped { end });
}

/// Appends how far an import has come. The document is one line of JSON.
pub(crate) fn push_progress(out: &mut Vec<u8>, progress: &Progress) {
    out.extend_from_slice(b"{\"progress\":{\"stream\":");
    push_text(out, &progress.stream);
    out.extend_from_slice(b",\"document\":");
    out.extend_from_slice(&progress.document);
    out.extend_from_slice(b"}}\n");
}

fn push_document(out: &mut Vec<u8>, document: &impl Serialize) {
    // Values of these types are always JSON, and writing to a Vec cannot fail.
    let _ = serde_json::to_writer(&mut *out, document);
    out.push(b'\n');
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    // As above.
    let _ = serde_json::to_writer(&mut *out, text);
}
