//! The outcome of a write, as the state machine decides it.

use super::{ClusterVersion, EventNumber, Position};

/// The decision on one command. Equal on every node and after every replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
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
    /// The events of another store are here, with their numbers.
    Imported {
        /// Events that this command stored.
        stored: u64,
        /// Events that were stored before.
        present: u64,
        /// Position of the last event of the log after the command.
        position: Position,
    },
    /// Nothing of an import was stored because of one of its events.
    NotImported(ImportRefusal),
    /// This cluster version is in force now: that of the command, or a higher one.
    VersionRaised {
        /// The version.
        version: ClusterVersion,
    },
    /// This version of the state machine always refuses the command; it is never stored.
    Rejected {
        /// A sentence for the client.
        reason: String,
    },
}

impl WriteOutcome {
    /// Position of the last event of a write that was stored.
    pub(crate) fn position(&self) -> Option<Position> {
        match self {
            Self::Appended { position, .. }
            | Self::Deleted { position }
            | Self::Redacted { position }
            | Self::Imported { position, .. } => Some(*position),
            Self::WrongExpectedVersion { .. }
            | Self::StreamDeleted
            | Self::Scavenged { .. }
            | Self::NotImported(_)
            | Self::VersionRaised { .. }
            | Self::Rejected { .. } => None,
        }
    }
}

impl std::fmt::Display for WriteOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The event because of which an import was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImportRefusal {
    /// Its stream.
    pub(crate) stream: String,
    /// Its number.
    pub(crate) number: EventNumber,
    /// Last number of the stream, -1 for none.
    pub(crate) current: i64,
    /// What is wrong with it.
    pub(crate) conflict: ImportConflict,
}

/// Why an event cannot be imported into a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImportConflict {
    /// The stream has another event with this number: somebody else writes to it.
    OtherEvent,
    /// The stream has later events, and none with this number.
    Missing,
    /// The stream is hard-deleted, or by another tombstone.
    Deleted,
    /// The command has a later event of the stream before it.
    OutOfOrder,
    /// The stream lacks more ranges of numbers than can be recorded.
    TooManyGaps,
}

impl std::fmt::Display for ImportRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { stream, number, current, conflict } = self;
        let (stream, number) = (stream.as_str(), *number);
        match conflict {
            ImportConflict::OtherEvent => {
                write!(f, "stream '{stream}' has another event with number {number}: somebody else writes to it")
            }
            ImportConflict::Missing => write!(
                f,
                "stream '{stream}' goes on to number {current} without an event {number}: it was imported without it"
            ),
            ImportConflict::Deleted => {
                write!(f, "stream '{stream}' is deleted for good; its event {number} cannot come back")
            }
            ImportConflict::OutOfOrder => {
                write!(f, "event {number} of stream '{stream}' comes after a later one of the same stream")
            }
            ImportConflict::TooManyGaps => {
                write!(f, "before event {number} of stream '{stream}' too many numbers are missing in too many places")
            }
        }
    }
}
