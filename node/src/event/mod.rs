//! The domain: streams, events, positions, versions, metadata, paging. No IO, no clock, no async.

pub mod caller;
pub mod expected_version;
pub mod id_retention;
pub mod list_check;
pub mod log_paging;
mod lookalike;
pub mod metadata;
pub mod outcome;
pub mod paging;
pub mod recorded;
pub mod removal;
pub mod resolved;
pub mod stream_head;
pub mod stream_name;
pub mod time;
pub mod visibility;

pub use caller::{Caller, Credential, Principal};
pub use expected_version::ExpectedVersion;
pub use metadata::StreamMetadata;
pub use outcome::{ImportConflict, ImportRefusal, WriteOutcome};
pub use recorded::{EventRef, RecordedEvent};
pub use removal::{Removable, RemovalMark, Removed, RemovedEvents};
pub use resolved::{LinkTarget, ResolvedEvent, ResolvedRef};
pub use stream_head::{Recreation, StreamHead};
pub use stream_name::{StreamName, StreamNameError, StreamNameRef};
pub use time::{Stamps, Ticks, TimePrinter};
pub use visibility::Visibility;

/// Index of an event in the log of all events: counted from 0, equal on every node, and never used
/// again after the event was removed.
pub type Position = u64;

/// Number of an event in its stream, counted from 0.
pub type EventNumber = u64;

/// The largest number and truncation point, 2^63-1: number of a tombstone, `$tb` of a soft-deleted
/// stream.
pub const MAX_NUMBER: u64 = i64::MAX as u64;

/// Data and metadata of one event together (contract/streams 6.1: equal is fine).
pub const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Type of the event that carries stream metadata.
pub const METADATA_EVENT_TYPE: &str = "$metadata";
/// Type of the tombstone (contract/streams 7).
pub const TOMBSTONE_EVENT_TYPE: &str = "$streamDeleted";
/// Type of a link to another event (contract/streams 11).
pub const LINK_EVENT_TYPE: &str = "$>";
