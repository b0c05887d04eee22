//! The outcome of a write, as the state machine decides it.

use super::{EventNumber, Position};

/// The decision on one command. Equal on every node and after every replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The events are stored.
    Appended {
        /// Number of the first event of the request.
        first_number: EventNumber,
        /// Position of the last event of the request: a read that includes it sees the whole write.
        position: Position,
        /// True when an earlier request with the same ids stored them; then numbers and position
        /// are those of that request.
        repeated: bool,
    },
    /// The stream is deleted, softly or for ever, by the event at this position.
    Deleted {
        /// Position of the metadata event or tombstone.
        position: Position,
    },
    /// The stream's last number (-1: none) is not the expected one.
    WrongExpectedVersion {
        /// The last number ever committed in the stream.
        current: i64,
    },
    /// The stream is hard-deleted, or soft-deleted where it was expected to exist.
    StreamDeleted,
    /// What nobody could see any more of some streams is removed.
    Scavenged {
        /// Events that are gone.
        events: u64,
        /// Bytes of their rows.
        bytes: u64,
        /// Streams of the command, from the first on, of which nothing more can be removed now.
        finished_streams: u32,
    },
    /// Data and metadata of the event at this position are blank.
    Redacted {
        /// Where the event is.
        position: Position,
    },
    /// This version of the state machine always refuses the command; it is never stored.
    Rejected {
        /// A sentence for the client.
        reason: String,
    },
}

impl WriteOutcome {
    /// Position of the last event of a write that was stored.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Appended { position, .. } | Self::Deleted { position } | Self::Redacted { position } => {
                Some(*position)
            }
            Self::WrongExpectedVersion { .. }
            | Self::StreamDeleted
            | Self::Scavenged { .. }
            | Self::Rejected { .. } => None,
        }
    }
}

impl std::fmt::Display for WriteOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
