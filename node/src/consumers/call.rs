//! What the worker of a group is asked for.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::group::{ConsumerId, Handed, Key};
use super::info::GroupInfo;
use super::{Settlement, Take};
use crate::event::EventNumber;

/// Calls that wait for the worker of a group. Further ones wait for their place.
pub(super) const CALLS: usize = 256;

/// A call. A worker that ends drops the calls that wait, and whoever asked asks the next one.
#[derive(Debug)]
pub(super) enum Call {
    /// Hands out messages, when there are some, or at the end of the wait.
    Take { take: Take, reply: oneshot::Sender<Answer<Batch>> },
    /// Settles messages by their ids.
    Settle { ids: Vec<Uuid>, settlement: Settlement, reply: oneshot::Sender<Answer<()>> },
    /// Messages were handed out and not sent: they are not there any more, or have to be handed
    /// out again.
    GiveBack { keys: Vec<Key>, gone: bool },
    /// Connects a consumer, which gets messages through this channel.
    Connect { consumer: NewConsumer, reply: oneshot::Sender<Answer<ConsumerId>> },
    /// A consumer is gone.
    Disconnect(ConsumerId),
    /// Replays parked messages.
    Replay { stop_at: Option<EventNumber>, reply: oneshot::Sender<Answer<()>> },
    /// Tells of the group.
    Describe { reply: oneshot::Sender<Answer<GroupInfo>> },
    /// Stores how far the group has come, and does nothing more before [`Self::GoOn`].
    Rest { reply: oneshot::Sender<()> },
    /// Goes on after a rest.
    GoOn,
    /// Stores how far the group has come, and ends.
    End { reply: oneshot::Sender<()> },
}

/// A consumer that connects.
#[derive(Debug)]
pub(super) struct NewConsumer {
    pub(super) window: usize,
    pub(super) from: String,
    pub(super) username: String,
    /// Has room for as many messages as the window.
    pub(super) messages: mpsc::Sender<Batch>,
}

/// Messages that are handed out together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) messages: Vec<Handed>,
    /// Links are followed before their targets are sent.
    pub(super) follows_links: bool,
}

/// An answer of a worker.
pub(super) type Answer<T> = Result<T, CallError>;

/// Why a worker does not do what it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallError {
    /// Leadership is about to move: another node will do it.
    Resting,
    /// As many consumers as may be are connected.
    TooManyConsumers,
    /// A sentence in the words of the original.
    Failed(String),
}

/// How long a consumer that asks waits while messages are still being read.
pub(super) const READING_PATIENCE: Duration = Duration::from_secs(1);
