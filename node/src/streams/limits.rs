//! Limits of events and appends, whichever door they come through. Beyond one: a clear answer,
//! nothing stored.

/// Data and metadata of one event together (contract/streams 6.1: equal is fine).
pub const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Data and metadata of an event from here on make the request one that no log can hold, which is
/// another answer (contract/streams 6.1).
pub const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of an event's type.
pub const MAX_EVENT_TYPE_BYTES: usize = 1024;

/// Events of one append. They are applied together.
pub const MAX_EVENTS_PER_APPEND: usize = 20_000;

/// Bytes of an encoded command. It travels whole in one node-to-node message of at most 32 MiB,
/// behind up to 1 MiB of others: what does not fit there could never be replicated.
pub const MAX_COMMAND_BYTES: usize = 16 * 1024 * 1024;
