//! What is stored of a group: events in its streams, and the commands that write them.
//!
//! The newest event of the stream of settings is the group, and its number tells one making of it
//! from another. The newest event of the stream of checkpoints says how far it has come. Every
//! command expects both to be as its writer knows them: of two writers one is refused.

use bytes::Bytes;
use headwater_proto::stored::{Append, AppendAll, Command, NewEvent, command::Kind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::GroupName;
use super::group::{Key, Parking, Progress};
use super::log_filter::LogFilter;
use super::names::{is_of_settings, metastream};
use super::settings::Settings;
use crate::event::{
    EventNumber, ExpectedVersion, LINK_EVENT_TYPE, METADATA_EVENT_TYPE, Position, StreamName, Ticks, Visibility,
};
use crate::store::{ReadError, ReadView};

const SETTINGS_EVENT: &str = "$persistentSubscriptionSettings";
const CHECKPOINT_EVENT: &str = "SubscriptionCheckpoint";

/// Only the newest event of a stream counts; the others go with the next scavenge.
const ONLY_THE_NEWEST: &str = r#"{"$maxCount":1}"#;

/// The `$tb` of a stream that is soft-deleted.
const DELETED: u64 = i64::MAX as u64;

/// What the newest event of the stream of settings says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    stream: String,
    group: String,
    settings: Settings,
    #[serde(flatten)]
    begin: Begin,
    updated_by: String,
}

/// Where a group begins when there is no checkpoint, and in what. A group on the log says it by a
/// name of its own: a program that knows groups on streams alone finds no group there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Begin {
    /// Number of the first event of the stream.
    #[serde(rename = "begin")]
    InStream(EventNumber),
    /// Where in the log.
    #[serde(rename = "log")]
    InLog(BeginInLog),
}

/// Where a group begins in the log, and what it shares out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BeginInLog {
    pub(super) begin: Position,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) filter: Option<LogFilter>,
}

impl Begin {
    /// In what a group of this name shares out. `filter` counts in the log alone.
    pub(super) fn of(name: &GroupName, place: u64, filter: Option<LogFilter>) -> Self {
        if name.is_on_log() { Self::InLog(BeginInLog { begin: place, filter }) } else { Self::InStream(place) }
    }

    fn place(&self) -> u64 {
        match self {
            Self::InStream(number) => *number,
            Self::InLog(in_log) => in_log.begin,
        }
    }

    fn into_filter(self) -> Option<LogFilter> {
        match self {
            Self::InStream(_) => None,
            Self::InLog(in_log) => in_log.filter,
        }
    }
}

/// A group as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub(super) name: GroupName,
    pub(super) settings: Settings,
    /// What a group on the log shares out of it; all events without one.
    pub(super) filter: Option<LogFilter>,
    /// Number of the event with the settings: another one stands for another making of the group.
    pub(super) generation: EventNumber,
    /// What was known when it was read.
    pub(super) versions: Versions,
    pub(super) progress: Progress,
    /// Whether there is a checkpoint.
    pub(super) has_checkpoint: bool,
}

/// The last numbers of the streams that a checkpoint is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) generation: EventNumber,
    /// `None` if the stream of checkpoints has no event, or is deleted.
    pub(super) checkpoint: Option<EventNumber>,
    /// Whether the stream of checkpoints says that only its newest event counts.
    pub(super) is_limited: bool,
}

/// Parked messages as they are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ParkedMessages {
    /// Number of the oldest one, and of the next one to be parked.
    pub(super) first: EventNumber,
    pub(super) end: EventNumber,
    /// When the oldest one was parked.
    pub(super) oldest: Option<Ticks>,
}

/// The metadata of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CheckpointMetadata {
    pub(super) progress: Progress,
}

/// Reads a group; `None` if there is none of this name.
pub(super) fn read(view: &ReadView<'_>, name: &GroupName) -> Result<Option<Stored>, ReadError> {
    let Some(event) = view.last_visible_event(&name.settings_stream())? else { return Ok(None) };
    let Ok(document) = serde_json::from_slice::<Document>(&event.data) else { return Ok(None) };
    // Names can be divided in two ways: `a::b` and `c`, or `a` and `b::c`.
    if document.stream != name.stream.as_str() || document.group != name.group {
        return Ok(None);
    }
    if matches!(document.begin, Begin::InLog(_)) != name.is_on_log() {
        return Ok(None);
    }
    let stream = name.checkpoint_stream();
    let newest = view.last_visible_event(&stream)?;
    let is_limited = view.stream(&stream)?.metadata.max_count.is_some();
    let versions =
        Versions { generation: event.number, checkpoint: newest.as_ref().map(|event| event.number), is_limited };
    let progress = newest.and_then(|event| {
        let metadata = serde_json::from_slice::<CheckpointMetadata>(&event.metadata);
        metadata.map(|of| of.progress).ok().or_else(|| bare_progress(&event.data))
    });
    Ok(Some(Stored {
        name: name.clone(),
        settings: document.settings,
        generation: event.number,
        versions,
        has_checkpoint: progress.is_some(),
        progress: progress.unwrap_or_else(|| Progress::starting_at(document.begin.place())),
        filter: document.begin.into_filter(),
    }))
}

/// A place in the stream of a group as tools read it, or one in the log: -1 before the first one.
fn place(name: &GroupName, place: i64) -> Value {
    if name.is_on_log() { position(place).into() } else { place.into() }
}

/// A position as the original writes it, which has two of them for one event.
pub(crate) fn position(position: i64) -> String {
    format!("C:{position}/P:{position}")
}

/// What a checkpoint without metadata says, as the original stores one: everything up to its number
/// is done.
pub(super) fn bare_progress(data: &[u8]) -> Option<Progress> {
    // Below 0 nothing is done yet.
    let next = |done: i64| u64::try_from(done).map_or(0, |done| done + 1);
    read_place(data).map(|done| Progress::starting_at(next(done)))
}

/// The place that [`place`] has written.
fn read_place(data: &[u8]) -> Option<i64> {
    match serde_json::from_slice(data).ok()? {
        Value::String(position) => position.strip_prefix("C:")?.split('/').next()?.parse().ok(),
        place => place.as_i64(),
    }
}

/// The names of the group to which the streams of this name belong: perhaps one whose names are
/// divided in another way. Nothing if there is none; its own name if that cannot be told.
pub(super) fn owner(view: &ReadView<'_>, name: &GroupName) -> Result<Option<GroupName>, ReadError> {
    let Some(event) = view.last_visible_event(&name.settings_stream())? else { return Ok(None) };
    Ok(Some(named_in(&event.data).unwrap_or_else(|| name.clone())))
}

/// The name of the group that these settings are of.
pub(super) fn named_in(settings: &[u8]) -> Option<GroupName> {
    let document: Document = serde_json::from_slice(settings).ok()?;
    Some(GroupName { stream: StreamName::parse(document.stream).ok()?, group: document.group })
}

/// The names of up to `most` groups in streams whose names begin with `prefix`, of those behind
/// `after`; and the stream that was looked at last, if there may be more.
pub(super) fn groups(
    view: &ReadView<'_>,
    prefix: &str,
    after: Option<&str>,
    most: usize,
) -> Result<(Vec<GroupName>, Option<String>), ReadError> {
    let names = view.stream_names(prefix, after, most)?;
    let mut groups = Vec::new();
    for stream in names.iter().filter(|stream| is_of_settings(stream)) {
        let Some(event) = view.last_visible_event(stream)? else { continue };
        let Some(name) = named_in(&event.data) else { continue };
        if name.settings_stream() == *stream {
            groups.push(name);
        }
    }
    let reached = (names.len() == most).then(|| names.last().cloned()).flatten();
    Ok((groups, reached))
}

/// What is stored of the parked messages.
pub(super) fn parked(view: &ReadView<'_>, name: &GroupName) -> Result<ParkedMessages, ReadError> {
    let info = view.stream(&name.parked_stream())?;
    let end = info.last_number.map_or(0, |last| last + 1);
    let Visibility::Readable(visible) = info.visibility(Ticks(0)) else {
        return Ok(ParkedMessages { first: end, end, oldest: None });
    };
    let first = visible.bounds.min.min(end);
    let oldest = match info.id {
        Some(id) if first < end => view.event(id, first)?.map(|event| event.time),
        _ => None,
    };
    Ok(ParkedMessages { first, end, oldest })
}

/// Number or position behind the last event of what a group shares out.
pub(super) fn end_of_source(view: &ReadView<'_>, name: &GroupName) -> Result<u64, ReadError> {
    if name.is_on_log() { view.next_position() } else { end_of(view, name.stream.as_str()) }
}

/// Number behind the last event of a stream, which may be deleted.
pub(super) fn end_of(view: &ReadView<'_>, stream: &str) -> Result<EventNumber, ReadError> {
    Ok(view.stream(stream)?.last_number.map_or(0, |last| last + 1))
}

/// Whether a stream has events and is not deleted.
pub(super) fn exists(view: &ReadView<'_>, stream: &str) -> Result<bool, ReadError> {
    let info = view.stream(stream)?;
    Ok(info.last_number.is_some() && !info.tombstoned && !info.metadata.is_soft_deleted())
}

/// The metadata that are in force of a stream.
pub(super) fn metadata_of(view: &ReadView<'_>, stream: &str) -> Result<Map<String, Value>, ReadError> {
    let event = view.last_visible_event(&metastream(stream))?;
    Ok(event.and_then(|event| serde_json::from_slice(&event.data).ok()).unwrap_or_default())
}

/// Where a group begins, and who says so.
pub(super) struct Making<'a> {
    pub(super) name: &'a GroupName,
    pub(super) settings: &'a Settings,
    pub(super) begin: Begin,
    pub(super) by: &'a str,
}

/// Makes a group, if there is none.
pub(super) fn create(making: &Making<'_>) -> Command {
    let stream = making.name.settings_stream();
    let limited = event(METADATA_EVENT_TYPE, ONLY_THE_NEWEST.into(), Bytes::new());
    command(vec![
        first(&stream, settings_event(making)),
        append(&metastream(&stream), ExpectedVersion::Any, vec![limited]),
    ])
}

/// Replaces the settings of a group, if they are those of this generation.
pub(super) fn update(making: &Making<'_>, generation: EventNumber) -> Command {
    let stream = making.name.settings_stream();
    command(vec![append(&stream, ExpectedVersion::Exactly(generation), vec![settings_event(making)])])
}

/// Deletes a group of this generation. `metadata` are those of its streams that have events; their
/// access lists stay, as a delete keeps them.
pub(super) fn delete(
    name: &GroupName,
    generation: EventNumber,
    metadata: Vec<(String, Map<String, Value>)>,
) -> Command {
    let mut appends = vec![append(&name.settings_stream(), ExpectedVersion::Exactly(generation), Vec::new())];
    for (stream, mut metadata) in metadata {
        metadata.insert("$tb".into(), DELETED.into());
        let document = Value::Object(metadata).to_string();
        let deleted = event(METADATA_EVENT_TYPE, document.into(), Bytes::new());
        appends.push(append(&metastream(&stream), ExpectedVersion::Any, vec![deleted]));
    }
    command(appends)
}

/// What is stored with a checkpoint.
pub(super) struct Checkpoint<'a> {
    pub(super) name: &'a GroupName,
    pub(super) versions: Versions,
    /// How far the group has come when the rest of this is stored.
    pub(super) progress: &'a Progress,
    /// Messages to be parked, which are settled with it.
    pub(super) parking: &'a [Parking],
    pub(super) time: Ticks,
    /// Metadata of the stream of parked messages, if those before a number are to go.
    pub(super) parked_metadata: Option<Map<String, Value>>,
}

/// Stores how far a group has come, and parks messages, in one step.
pub(super) fn checkpoint(checkpoint: &Checkpoint<'_>) -> Command {
    let Checkpoint { name, versions, progress, parking, time, parked_metadata } = checkpoint;
    let stream = name.checkpoint_stream();
    let metadata = json(&CheckpointMetadata { progress: (*progress).clone() });
    let reached = event(CHECKPOINT_EVENT, place(name, progress.checkpoint()).to_string().into(), metadata);
    let mut appends = vec![append(&name.settings_stream(), ExpectedVersion::Exactly(versions.generation), Vec::new())];
    appends.push(match versions.checkpoint {
        Some(version) => append(&stream, ExpectedVersion::Exactly(version), vec![reached]),
        None => first(&stream, reached),
    });
    if !versions.is_limited {
        let limited = event(METADATA_EVENT_TYPE, ONLY_THE_NEWEST.into(), Bytes::new());
        appends.push(append(&metastream(&stream), ExpectedVersion::Any, vec![limited]));
    }
    let parked = name.parked_stream();
    if !parking.is_empty() {
        let events = parking.iter().map(|parking| parked_event(name, parking, *time)).collect();
        appends.push(append(&parked, ExpectedVersion::Any, events));
    }
    if let Some(metadata) = parked_metadata {
        let document = Value::Object(metadata.clone()).to_string();
        let truncated = event(METADATA_EVENT_TYPE, document.into(), Bytes::new());
        appends.push(append(&metastream(&parked), ExpectedVersion::Any, vec![truncated]));
    }
    command(appends)
}

/// A link to the event, with what the original says about it.
fn parked_event(name: &GroupName, parking: &Parking, time: Ticks) -> NewEvent {
    let (number, stream) = &parking.origin;
    let (place_name, place) = match parking.key {
        Key::Source(at) if name.is_on_log() => {
            ("subscriptionEventPosition", place(name, i64::try_from(at).unwrap_or(i64::MAX)))
        }
        Key::Source(number) => ("subscriptionEventNumber", number.into()),
        // It was parked before.
        Key::Parked(_) => ("subscriptionEventNumber", (*number).into()),
    };
    let metadata = serde_json::json!({
        "added": time.to_string(),
        "reason": parking.reason,
        place_name: place,
    });
    let link = event(LINK_EVENT_TYPE, format!("{number}@{stream}").into(), metadata.to_string().into());
    NewEvent { is_json: false, ..link }
}

fn settings_event(making: &Making<'_>) -> NewEvent {
    let document = Document {
        stream: making.name.stream.as_str().to_owned(),
        group: making.name.group.clone(),
        settings: making.settings.clone(),
        begin: making.begin.clone(),
        updated_by: making.by.to_owned(),
    };
    event(SETTINGS_EVENT, json(&document), Bytes::new())
}

fn json(document: &impl Serialize) -> Bytes {
    serde_json::to_vec(document).unwrap_or_default().into()
}

fn event(event_type: &str, data: Bytes, metadata: Bytes) -> NewEvent {
    NewEvent {
        event_id: Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
        event_type: event_type.to_owned(),
        is_json: true,
        data,
        metadata,
    }
}

/// The first event of a stream, perhaps after a deletion. Copies of the write are told by its id
/// (docs/adr/0016-copies-of-a-write.md).
fn first(stream: &str, event: NewEvent) -> Append {
    let write_id = Bytes::copy_from_slice(Uuid::new_v4().as_bytes());
    Append { write_id, ..append(stream, ExpectedVersion::NoStream, vec![event]) }
}

fn append(stream: &str, expected: ExpectedVersion, events: Vec<NewEvent>) -> Append {
    Append { stream: stream.to_owned(), expected_version: expected.to_number(), events, ..Append::default() }
}

fn command(appends: Vec<Append>) -> Command {
    Command::of_streams(Kind::AppendAll(AppendAll { appends }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_the_original_says_what_is_done_whatever_its_number() {
        for (data, next) in
            [("-1", 0), ("-9223372036854775808", 0), ("0", 1), ("\"C:41/P:41\"", 42), ("9223372036854775807", 1 << 63)]
        {
            assert_eq!(bare_progress(data.as_bytes()), Some(Progress::starting_at(next)), "{data}");
        }
    }

    #[test]
    fn groups_on_streams_are_stored_as_ever_and_those_on_the_log_are_none_to_who_knows_only_these() {
        let of_stream = r#"{"stream":"s","group":"g","settings":{},"begin":3,"updatedBy":"me"}"#;
        let document: Document = serde_json::from_str(of_stream).unwrap();
        assert_eq!(document.begin, Begin::InStream(3));
        assert!(serde_json::to_string(&document).unwrap().contains(r#""begin":3,"updatedBy":"me""#));

        let filter = LogFilter { wants: None, exclude_system_events: true };
        let begin = Begin::InLog(BeginInLog { begin: 1 << 60, filter: Some(filter) });
        let on_log = Document { stream: "$all".to_owned(), begin, ..document };
        let stored = serde_json::to_string(&on_log).unwrap();
        assert_eq!(serde_json::from_str::<Document>(&stored).unwrap(), on_log);
        // A field that was never optional.
        let members: Map<String, Value> = serde_json::from_str(&stored).unwrap();
        assert!(!members.contains_key("begin"), "{stored}");
    }

    #[test]
    fn a_checkpoint_in_the_log_is_a_position_and_one_in_a_stream_a_number() {
        let name = |stream: &str| GroupName { stream: StreamName::parse(stream).unwrap(), group: "g".to_owned() };
        for (stream, number, stored) in
            [("s", 7, "7"), ("s", -1, "-1"), ("$all", 7, r#""C:7/P:7""#), ("$all", -1, r#""C:-1/P:-1""#)]
        {
            assert_eq!(place(&name(stream), number).to_string(), stored);
            assert_eq!(read_place(stored.as_bytes()), Some(number));
        }
        for other in ["", "{}", r#""7""#, r#""C:x/P:7""#] {
            assert_eq!(read_place(other.as_bytes()), None, "{other}");
        }
    }
}
