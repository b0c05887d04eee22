//! Competing consumers: groups that share out the events of a stream, or what a filter leaves of
//! the log of all events, among their consumers, each event to one of them, until it is
//! acknowledged (contract/services 3).
//!
//! All that a group is lies in streams of its own ([`names`]): its settings, how far it has come
//! with every message that is still open, and the messages that it has parked. One task on the
//! leader works on a group while it has anything to do ([`worker`]), and decides by a machine
//! without clock and disk ([`group`]). What it writes is stored only if nobody else wrote
//! meanwhile. So the next leader goes on where the last one was, and no two work on one group.
//!
//! Any node takes any request. The leader hands out places of events, and the node that was asked
//! reads them from its own copy, with the rights of its caller.

mod call;
mod checkpointing;
mod config_document;
mod consumption;
mod describing;
mod figures;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod group;
mod info;
mod latencies;
mod leader;
mod log_filter;
mod names;
mod reader;
mod record;
mod request;
mod serve;
pub(crate) mod settings;
mod storing;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::access::Access;
use crate::budget::Reservation;
use crate::cluster::Cluster;
use crate::event::stream_name::StreamNameError;
use crate::event::{ResolvedEvent, StreamName};
use crate::streams::{Refusal, Streams};
pub(crate) use consumption::{Consume, Consumption};
pub(crate) use figures::ConsumerMetrics;
pub(crate) use info::{ConnectionInfo, GroupInfo};
use leader::LeaderOfGroups;
pub(crate) use log_filter::{Context, LogFilter, Text, Wanted};
pub(crate) use record::position;
use settings::SettingsError;

/// A group by its names. Two streams may have groups of one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(String, String)", into = "(String, String)")]
pub(crate) struct GroupName {
    /// The stream whose events it shares out; `$all` for the log of all events.
    pub(crate) stream: StreamName,
    /// Its own name, which is not empty.
    pub(crate) group: String,
}

impl TryFrom<(String, String)> for GroupName {
    type Error = StreamNameError;

    fn try_from((stream, group): (String, String)) -> Result<Self, Self::Error> {
        Ok(Self { stream: StreamName::parse(stream)?, group })
    }
}

impl From<GroupName> for (String, String) {
    fn from(name: GroupName) -> Self {
        (name.stream.as_str().to_owned(), name.group)
    }
}

/// What is done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// It is done.
    Acknowledge,
    /// It is handed out again, or parked if that was done often enough.
    Retry,
    /// It is parked.
    Park,
    /// It is done, although nobody dealt with it. The original's `stop` means the same.
    Skip,
}

/// A message as a consumer gets it.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// The event, and what it leads to where links are followed. A message that was parked before
    /// is the link in the stream of parked messages, and leads to its event.
    pub(crate) event: ResolvedEvent,
    /// What it is acknowledged by: the id of the event in the stream of the group.
    pub(crate) id: Uuid,
    /// How often it was handed out before.
    pub(crate) retries: u32,
    /// Memory of a large batch, which all of its messages share: kept until they are sent.
    pub(crate) memory: Option<Arc<Reservation>>,
}

/// A wish for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take {
    /// How many at most, 1 to 100.
    pub(crate) count: usize,
    /// How long to wait for the first one.
    pub(crate) wait: Option<Duration>,
}

/// Why a group is not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// What any operation can be refused for.
    #[error(transparent)]
    Refused(Refusal),
    /// The settings make no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There is such a group.
    #[error("the group exists")]
    AlreadyExists,
    /// The streams that it would have belong to another group, whose names are divided in another
    /// way; a sentence that says so.
    #[error("{0}")]
    NameTaken(String),
    /// There is no such group.
    #[error("the group does not exist")]
    DoesNotExist,
    /// It cannot be made, or is busy; a sentence in the words of the original.
    #[error("{0}")]
    Failed(String),
    /// It may have been changed.
    #[error("the outcome is not known")]
    Unknown,
}

/// Why no message is handed out, or none is settled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsumeError {
    /// What any operation can be refused for.
    #[error(transparent)]
    Refused(Refusal),
    /// There is no such group.
    #[error("the group does not exist")]
    DoesNotExist,
    /// As many consumers as may be are connected.
    #[error("the group has as many consumers as it may have")]
    TooManyConsumers,
}

/// Messages that one connected consumer may have without settling them.
pub(crate) const MAX_WINDOW: usize = 1_000;

/// Messages of one request.
pub(crate) const MAX_TAKEN: usize = 100;

/// Groups of a cluster. A further one is not made.
pub(crate) const MAX_GROUPS: usize = 10_000;

/// How long a request waits for the leader, beside the time that it wants to wait for messages.
const LEADER_PATIENCE: Duration = Duration::from_secs(5);

/// The operations on groups. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Consumers {
    parts: Arc<Parts>,
    /// Works on the groups while this node leads, as long as this lives.
    _leader: LeaderOfGroups,
}

/// What the room is built on.
struct Parts {
    cluster: Cluster,
    access: Access,
    streams: Streams,
    metrics: ConsumerMetrics,
}

impl Consumers {
    /// The groups of this cluster. From here on this node works on them while it leads.
    /// `stop` ends what is done in the background.
    pub(crate) fn start(
        cluster: Cluster,
        access: Access,
        streams: Streams,
        metrics: ConsumerMetrics,
        stop: &CancellationToken,
    ) -> Self {
        let parts = Arc::new(Parts { cluster, access, streams, metrics });
        let changed = Arc::<Notify>::default();
        let leader = LeaderOfGroups::new(parts.clone(), changed.clone());
        parts.cluster.serve_groups_with(Box::new(leader.server()));
        tokio::spawn(config_document::run(parts.clone(), changed, stop.clone()));
        Self { parts, _leader: leader }
    }
}
