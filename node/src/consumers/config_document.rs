//! The stream in which the original keeps the settings of all groups, for tools that read it
//! (contract/services 3.6, "Config document"). The leader writes it some time after a change; the
//! groups themselves are kept elsewhere ([`super::record`]).

use std::sync::Arc;
use std::time::Duration;

use headwater_proto::stored::{Append, AppendAll, Command, NewEvent, command::Kind};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::leader::now;
use super::record::{self, Stored};
use super::{GroupName, Parts};
use crate::cluster::{EncodedCommand, Requester, Write};
use crate::event::{ExpectedVersion, METADATA_EVENT_TYPE};
use crate::store::{ReadError, ReadView};

const STREAM: &str = "$persistentSubscriptionConfig";
const EVENT_TYPE: &str = "PersistentConfig1";

/// The newest document counts, and the one before it is kept, as in the original.
const METADATA: &str = r#"{"$maxCount":2}"#;

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
    let (newest, is_described) = parts.cluster.store().read(newest).await?;
    let known = newest.as_ref().map_or_else(|| json!([]), |document| document["entries"].clone());
    if known == Value::Array(entries.clone()) {
        return Ok(());
    }
    let document = json!({
        "version": "2",
        "updated": now().to_string(),
        "updatedBy": "",
        "entries": entries,
    });
    let mut appends = vec![append(STREAM, EVENT_TYPE, document.to_string())];
    if !is_described {
        appends.push(append(&super::names::metastream(STREAM), METADATA_EVENT_TYPE, METADATA.to_owned()));
    }
    let command = EncodedCommand::of(&Command::of_streams(Kind::AppendAll(AppendAll { appends })));
    let outcome = parts.cluster.write(Write { command, requester: Requester::Node, authorized_in: None }).await?;
    anyhow::ensure!(outcome.position().is_some(), "{outcome}");
    Ok(())
}

/// The newest document, and whether the stream has metadata.
fn newest(view: &ReadView<'_>) -> Result<(Option<Value>, bool), ReadError> {
    let newest = view.last_visible_event(STREAM)?;
    let document = newest.and_then(|event| serde_json::from_slice(&event.data).ok());
    Ok((document, view.stream(STREAM)?.metadata.max_count.is_some()))
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

fn append(stream: &str, event_type: &str, data: String) -> Append {
    let event = NewEvent {
        event_id: Uuid::new_v4().as_bytes().to_vec().into(),
        event_type: event_type.to_owned(),
        is_json: true,
        data: data.into(),
        ..NewEvent::default()
    };
    let expected_version = ExpectedVersion::Any.to_number();
    Append { stream: stream.to_owned(), expected_version, events: vec![event], ..Append::default() }
}
