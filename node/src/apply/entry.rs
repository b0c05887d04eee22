//! Log entries as they are applied: what consensus has agreed on, in plain values.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use headwater_proto::stored;
use prost::Message;

use crate::event::Ticks;
use crate::trace::EntryTrace;

/// The identity of a log entry: entries with the same id are equal on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryId {
    /// The term of the leader that wrote it.
    pub(crate) term: u64,
    /// Its index in the log.
    pub(crate) index: u64,
}

impl EntryId {
    /// The encoding that the state stores as its last applied entry.
    pub(super) fn encode(self) -> Vec<u8> {
        stored::LogId { term: self.term, index: self.index }.encode_to_vec()
    }
}

/// One log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its identity.
    pub(crate) id: EntryId,
    /// Its content.
    pub(crate) payload: Payload,
}

/// The content of a log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Nothing: a leader begins its term with such an entry.
    Blank,
    /// Commands of clients.
    Commands(Proposal),
    /// The members from here on, in the encoding that the state stores.
    Members(Vec<u8>),
}

impl Entry {
    /// The trace of its commands, if there is one.
    pub(crate) fn trace(&self) -> Option<&EntryTrace> {
        match &self.payload {
            Payload::Commands(proposal) => proposal.trace.as_ref(),
            Payload::Blank | Payload::Members(_) => None,
        }
    }

    /// Bytes of its commands.
    pub(crate) fn weight(&self) -> usize {
        match &self.payload {
            Payload::Commands(proposal) => proposal.weight(),
            Payload::Blank | Payload::Members(_) => 0,
        }
    }
}

/// Clients' commands with the leader's time: the content of a normal log entry. Commands that
/// arrive together share an entry, because most of an entry's cost in consensus and log is paid
/// once per entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// When the leader proposed it.
    pub(crate) time: Ticks,
    /// Each is an encoded [`headwater_proto::stored::Command`]. Shared, because replication and
    /// apply clone entries.
    pub(crate) commands: Arc<[Bytes]>,
    /// What becomes of the entry is recorded below this span. It is not stored, and an entry that
    /// was read from the disk has none.
    pub(crate) trace: Option<EntryTrace>,
}

impl Proposal {
    /// Approximate size of a command besides its bytes, in memory and on disk.
    const COMMAND_OVERHEAD_BYTES: usize = 32;

    /// Bytes of all commands, with their overhead.
    pub(crate) fn weight(&self) -> usize {
        self.commands.iter().map(|command| command.len() + Self::COMMAND_OVERHEAD_BYTES).sum()
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands of {} bytes", self.commands.len(), self.weight())
    }
}
