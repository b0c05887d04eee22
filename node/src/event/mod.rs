//! The domain: streams, events, positions, versions, metadata, paging. No IO, no clock, no async.

pub(crate) mod caller;
pub(crate) mod cluster_version;
mod expected_version;
pub(crate) mod id_retention;
pub(crate) mod list_check;
pub(crate) mod log_paging;
mod lookalike;
pub(crate) mod metadata;
mod outcome;
pub(crate) mod paging;
mod recorded;
pub(crate) mod removal;
pub(crate) mod resolved;
mod stream_head;
pub(crate) mod stream_name;
mod time;
pub(crate) mod visibility;

pub(crate) use caller::{Caller, Credential, Principal};
pub(crate) use cluster_version::ClusterVersion;
pub(crate) use expected_version::ExpectedVersion;
pub(crate) use metadata::StreamMetadata;
pub(crate) use outcome::{ImportConflict, ImportRefusal, WriteOutcome};
pub(crate) use recorded::{EventRef, RecordedEvent};
pub(crate) use removal::{Removable, RemovalMark, Removed, RemovedEvents};
pub(crate) use resolved::{LinkTarget, ResolvedEvent, ResolvedRef};
pub(crate) use stream_head::{Recreation, StreamHead};
pub(crate) use stream_name::{StreamName, StreamNameError, StreamNameRef};
pub(crate) use time::{Stamps, Ticks, TimePrinter};
pub(crate) use visibility::Visibility;

/// Index of an event in the log of all events: counted from 0, equal on every node, and never used
/// again after the event was removed.
pub(crate) type Position = u64;

/// Number of an event in its stream, counted from 0.
pub(crate) type EventNumber = u64;

/// The largest number and truncation point, 2^63-1: number of a tombstone, `$tb` of a soft-deleted
/// stream.
pub(crate) const MAX_NUMBER: u64 = i64::MAX as u64;

/// The largest number that an import gives an event other than a tombstone, and at which a stream
/// may go on: half of all. The events behind it would otherwise come to the number of a tombstone.
pub(crate) const MAX_IMPORTED_NUMBER: u64 = MAX_NUMBER / 2;

/// Data and metadata of one event together (contract/streams 6.1: equal is fine).
pub(crate) const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Type of the event that carries stream metadata.
pub(crate) const METADATA_EVENT_TYPE: &str = "$metadata";
/// Type of the tombstone (contract/streams 7).
pub(crate) const TOMBSTONE_EVENT_TYPE: &str = "$streamDeleted";
/// Type of a link to another event (contract/streams 11).
pub(crate) const LINK_EVENT_TYPE: &str = "$>";
