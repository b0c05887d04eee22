//! Competing consumers: groups that share out the events of a stream among their consumers, each
//! event to one of them, until it is acknowledged (contract/services 3).
//!
//! All that a group is lies in streams of its own ([`names`]): its settings, how far it has come
//! with every message that is still open, and the messages that it has parked. One task on the
//! leader works on a group while it has anything to do ([`actor`]), and decides by a machine without
//! clock and disk ([`group`]). What it writes is stored only if nobody else wrote meanwhile. So the
//! next leader goes on where the last one was, and no two work on one group.
//!
//! Any node takes any request. The leader hands out places of events, and the node that was asked
//! reads them from its own copy, with the rights of its caller.

mod group;
pub(crate) mod settings;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::budget::Reservation;
use crate::event::{EventNumber, ResolvedEvent, StreamName};
use crate::streams::{Refusal, RemoteCaller};
use settings::{Settings, SettingsError};

/// A group by its names. Two streams may have groups of one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GroupName {
    /// The stream whose events it shares out.
    pub(crate) stream: StreamName,
    /// Its own name, which is not empty.
    pub(crate) group: String,
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

/// What is told of a group (contract/services 3.5).
#[derive(Debug, Clone)]
pub(crate) struct GroupInfo {
    /// Its names.
    pub(crate) name: GroupName,
    /// Its settings.
    pub(crate) settings: Settings,
    /// Flags, joined by `, `.
    pub(crate) status: String,
    /// Messages handed out in the last measured second.
    pub(crate) average_items_per_second: f64,
    /// Messages handed out since the leader took the group up.
    pub(crate) total_items_processed: u64,
    /// Messages handed out since the last measurement.
    pub(crate) count_since_last_measurement: u64,
    /// All events up to this one are settled, by the last checkpoint; -1 before the first.
    pub(crate) last_checkpointed: i64,
    /// Highest event that was acknowledged; -1 for none.
    pub(crate) last_acknowledged: i64,
    /// Last event of the stream; -1 for none.
    pub(crate) last_known: i64,
    /// Messages read ahead that nobody has got yet.
    pub(crate) read_buffer_count: u64,
    /// Messages that wait to be handed out again.
    pub(crate) retry_buffer_count: u64,
    /// Messages that connected consumers have.
    pub(crate) in_flight: u64,
    /// Messages that any consumer has.
    pub(crate) outstanding: u64,
    /// How long the oldest of them has been out.
    pub(crate) oldest_outstanding: Option<Duration>,
    /// Parked messages.
    pub(crate) parked: u64,
    /// How long ago the oldest of them was parked.
    pub(crate) oldest_parked: Option<Duration>,
    /// Since when there are messages to hand out and none was settled, or taken.
    pub(crate) stalled_since: Option<crate::event::Ticks>,
    /// Why it cannot go on, in a sentence.
    pub(crate) failure: Option<String>,
    /// Consumers that are connected.
    pub(crate) connections: Vec<ConnectionInfo>,
}

/// What is told of a connected consumer.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionInfo {
    /// Its address.
    pub(crate) from: String,
    /// Its login, or `anonymous`.
    pub(crate) username: String,
    /// Messages it got in the last measured second.
    pub(crate) average_items_per_second: f64,
    /// Messages it got.
    pub(crate) total_items_processed: u64,
    /// Messages it got since the last measurement.
    pub(crate) count_since_last_measurement: u64,
    /// Messages it may get before it settles one.
    pub(crate) available_slots: u64,
    /// Messages it has.
    pub(crate) in_flight_messages: u64,
}

/// The operations on groups. Cheap to clone.
#[derive(Clone)]
pub struct Consumers {}

/// A connected consumer: gets messages as long as it has room for them.
pub(crate) struct Consumption {}

/// Why a connected consumer gets nothing more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsumptionEnd {
    /// What any operation can be refused for: it lost its right, or no node leads.
    #[error(transparent)]
    Refused(Refusal),
    /// The group was changed or deleted, or another node leads: it may connect again.
    #[error("the consumer was dropped")]
    Dropped,
    /// The node shuts down, or the consumer waits for nothing more.
    #[error("the node shuts down, or the consumer waits for nothing more")]
    Closed,
}

impl Consumption {
    /// The next messages, at least one; nothing when none came within the longest silence.
    ///
    /// # Errors
    /// Nothing more will come.
    pub(crate) async fn next(&mut self) -> Result<Vec<Delivery>, ConsumptionEnd> {
        todo!()
    }
}

/// A wish to be connected to a group.
#[derive(Debug, Clone)]
pub(crate) struct Consume {
    /// The address of the consumer, to be shown.
    pub(crate) from: String,
    /// How many messages it may have that it has not settled, 1 to [`MAX_WINDOW`].
    pub(crate) window: usize,
    /// How long it waits for a word at most.
    pub(crate) longest_silence: Duration,
    /// The consumer has closed its sending side.
    pub(crate) closed: tokio_util::sync::CancellationToken,
}

/// Messages that one connected consumer may have without settling them.
pub(crate) const MAX_WINDOW: usize = 1_000;

/// Messages of one request.
pub(crate) const MAX_TAKEN: usize = 100;

impl Consumers {
    /// Makes a group. The stream need not exist.
    pub(crate) async fn create(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        settings: &Settings,
    ) -> Result<(), ChangeError> {
        todo!()
    }

    /// Replaces the settings of a group, and drops its connected consumers.
    pub(crate) async fn update(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        settings: &Settings,
    ) -> Result<(), ChangeError> {
        todo!()
    }

    /// Deletes a group, with its progress and its parked messages.
    pub(crate) async fn delete(&self, client: RemoteCaller<'_>, name: &GroupName) -> Result<(), ChangeError> {
        todo!()
    }

    /// Hands out the parked messages of a group again: those that are parked now, and of these only
    /// those with numbers below `stop_at`, if it is given.
    pub(crate) async fn replay_parked(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        stop_at: Option<EventNumber>,
    ) -> Result<(), ChangeError> {
        todo!()
    }

    /// Drops all connected consumers and reads all groups anew.
    pub(crate) async fn restart(&self, client: RemoteCaller<'_>) -> Result<(), ChangeError> {
        todo!()
    }

    /// Takes messages. Those that were parked, or were given back, come first.
    pub(crate) async fn take(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        take: Take,
    ) -> Result<Vec<Delivery>, ConsumeError> {
        todo!()
    }

    /// Settles messages. Ids that are not out are ignored, and so is a group that does not exist
    /// (contract/services 3.1).
    pub(crate) async fn settle(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        ids: &[Uuid],
        settlement: Settlement,
    ) -> Result<(), ConsumeError> {
        todo!()
    }

    /// Connects a consumer.
    pub(crate) async fn consume(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
        consume: Consume,
    ) -> Result<Consumption, ConsumeError> {
        todo!()
    }

    /// Tells of a group; `None` if it does not exist.
    pub(crate) async fn describe(
        &self,
        client: RemoteCaller<'_>,
        name: &GroupName,
    ) -> Result<Option<GroupInfo>, Refusal> {
        todo!()
    }

    /// Tells of the groups of a stream, or of all, in the order of their names: so many behind the
    /// first `offset` ones, and how many there are.
    pub(crate) async fn list(
        &self,
        client: RemoteCaller<'_>,
        of: Option<&StreamName>,
        offset: usize,
        count: usize,
    ) -> Result<(Vec<GroupInfo>, usize), Refusal> {
        todo!()
    }

    /// The names of the groups of a stream, for its description document. Those of this node's own
    /// state.
    pub(crate) async fn of_stream(&self, stream: &StreamName) -> Result<Vec<String>, Refusal> {
        todo!()
    }
}
