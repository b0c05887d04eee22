//! The stream in which the original keeps the settings of all groups, for tools that read it
//! (contract/services 3.6, "Config document"). The leader writes it some time after a change; the
//! groups themselves are kept elsewhere ([`super::record`]).

use std::sync::Arc;
use std::time::Duration;

use headwater_proto::stored::{Append, AppendAll, Command, NewEvent, command::Kind};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::leader::now;
use super::record::{self, Stored};
use super::{GroupName, Parts, names};
use crate::cluster::{EncodedCommand, Requester, Write};
use crate::event::stream_name::GROUPS;
use crate::event::{ExpectedVersion, METADATA_EVENT_TYPE};
use crate::store::{ReadError, ReadView};

const EVENT_TYPE: &str = "PersistentConfig1";

/// The newest document counts, and the one before it is kept, as in the original.
const KEPT_DOCUMENTS: u64 = 2;

/// Changes are collected for so long: the document has all groups.
const DELAY: Duration = Duration::from_secs(1);

/// Writes the document after changes of groups, while this node leads, until `stop`.
pub(super) async fn run(parts: Arc<Parts>, changed: Arc<Notify>, stop: CancellationToken) {
    let mut leader = parts.cluster.leader_changes();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed.notified() => {}
            // The last leader may not have come to it.
            changed = leader.changed() => if changed.is_err() { return },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(DELAY) => {}
        }
        if !parts.cluster.leads() || !parts.cluster.has_recovered() {
            continue;
        }
        if let Err(error) = write(&parts).await {
            tracing::debug!(%error, "the document of all groups of consumers is not written");
            changed.notify_one();
        }
    }
}

/// Writes the document if its groups are others than those of the newest one.
async fn write(parts: &Parts) -> anyhow::Result<()> {
    let mut entries = Vec::new();
    for name in parts.groups(None).await? {
        let read = move |view: &ReadView<'_>| record::read(view, &name);
        if let Some(stored) = parts.cluster.store().read(read).await? {
            entries.push(entry(&stored));
        }
    }
    let Known { document, mut metadata, metadata_version, is_limited } = parts.cluster.store().read(known).await?;
    let known = document.map_or_else(|| json!([]), |document| document["entries"].clone());
    if known == Value::Array(entries.clone()) {
        return Ok(());
    }
    let document = json!({
        "version": "2",
        "updated": now().to_string(),
        "updatedBy": "",
        "entries": entries,
    });
    let mut appends = vec![append(GROUPS, EVENT_TYPE, document.to_string(), ExpectedVersion::Any)];
    if !is_limited {
        // The rest stays, and so does what an administrator writes meanwhile: who may manage
        // groups.
        metadata.insert("$maxCount".into(), KEPT_DOCUMENTS.into());
        let (stream, document) = (names::metastream(GROUPS), Value::Object(metadata).to_string());
        appends.push(append(&stream, METADATA_EVENT_TYPE, document, metadata_version));
    }
    let command = EncodedCommand::of(&Command::of_streams(Kind::AppendAll(AppendAll { appends })));
    let outcome = parts.cluster.write(Write { command, requester: Requester::Node, authorized_in: None }).await?;
    anyhow::ensure!(outcome.position().is_some(), "{outcome}");
    Ok(())
}

/// What the stream has.
struct Known {
    /// The newest document.
    document: Option<Value>,
    metadata: Map<String, Value>,
    /// What the stream of the metadata has to be at when they are replaced.
    metadata_version: ExpectedVersion,
    /// Whether they say how many documents count.
    is_limited: bool,
}

fn known(view: &ReadView<'_>) -> Result<Known, ReadError> {
    let newest = view.last_visible_event(GROUPS)?;
    let last = view.stream(&names::metastream(GROUPS))?.last_number;
    Ok(Known {
        document: newest.and_then(|event| serde_json::from_slice(&event.data).ok()),
        metadata: record::metadata_of(view, GROUPS)?,
        metadata_version: last.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exactly),
        is_limited: view.stream(GROUPS)?.metadata.max_count.is_some(),
    })
}

/// A group as the original writes it.
fn entry(stored: &Stored) -> Value {
    let (GroupName { stream, group }, settings) = (&stored.name, &stored.settings);
    let mut entry = json!({
        "stream": stream.as_str(),
        "group": group,
        "resolveLinkTos": settings.resolve_links,
        "extraStatistics": settings.extra_statistics,
        "messageTimeout": settings.message_timeout_milliseconds,
        "startFrom": settings.start_from,
        "liveBufferSize": settings.live_buffer_size,
        "historyBufferSize": settings.buffer_size,
        "maxRetryCount": settings.max_retry_count,
        "readBatchSize": settings.read_batch_size,
        "checkPointAfter": settings.checkpoint_after_milliseconds,
        "minCheckPointCount": settings.min_checkpoint_count,
        "maxCheckPointCount": settings.max_checkpoint_count,
        "maxSubscriberCount": settings.max_subscriber_count,
        "namedConsumerStrategy": settings.strategy.name(),
    });
    if stored.name.is_on_log() {
        entry["startPosition"] = record::position(settings.start_from).into();
        entry["filter"] = json!(stored.filter);
    }
    entry
}

fn append(stream: &str, event_type: &str, data: String, expected: ExpectedVersion) -> Append {
    let event = NewEvent {
        event_id: Uuid::new_v4().as_bytes().to_vec().into(),
        event_type: event_type.to_owned(),
        is_json: true,
        data: data.into(),
        ..NewEvent::default()
    };
    let expected_version = expected.to_number();
    Append { stream: stream.to_owned(), expected_version, events: vec![event], ..Append::default() }
}
