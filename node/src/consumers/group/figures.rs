//! What is told of a group at work.

use std::time::Duration;

use super::connected::ConsumerFigures;

/// Figures of a group since it was taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Messages read ahead that were never handed out, replayed ones included.
    pub(crate) buffered: usize,
    /// Messages that wait because they were handed out before.
    pub(crate) retrying: usize,
    /// Messages that connected consumers have.
    pub(crate) in_flight: usize,
    /// Messages that any consumer has.
    pub(crate) outstanding: usize,
    /// How long the oldest of them has been out.
    pub(crate) oldest_outstanding: Option<Duration>,
    /// Messages that have to be parked.
    pub(crate) parking: usize,
    /// Messages handed out, those included that were given back.
    pub(crate) handed: u64,
    /// The highest number in the stream of the group that was acknowledged; -1 for none.
    pub(crate) acknowledged: i64,
    /// A replay goes on.
    pub(crate) is_replaying: bool,
    /// Nothing can be handed out, and nothing more is read, until a message that is out or has to
    /// be parked is settled: as many are held as may be.
    pub(crate) is_held_back: bool,
    /// Connected consumers, in the order of their arrival.
    pub(crate) consumers: Vec<ConsumerFigures>,
}
