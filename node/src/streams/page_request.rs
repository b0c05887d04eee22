//! What a read of a page asks for, whether its page is one of a stream or of the log.

use super::barrier::ReadBarrier;
use crate::event::paging::{PageSize, PageStart};
use crate::subscribe::LongPoll;

/// What a page was made of: as long as it is the same, so is the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// Number of the stream's last event, or position of the log's; -1 for none.
    pub(crate) last: i64,
    /// How many events were redacted.
    pub(crate) redactions: u32,
}

/// The part of a read that is the same for all pages.
#[derive(Debug, Clone)]
pub(crate) struct PageRequest {
    /// Where the page begins, and which way it goes.
    pub(crate) start: PageStart,
    /// How many numbers or positions the page spans.
    pub(crate) size: PageSize,
    /// What the read demands of the node.
    pub(crate) barrier: ReadBarrier,
    /// Versions of the stream or log that the caller need not be told of again.
    pub(crate) known_versions: Vec<Version>,
    /// How long a forward page that begins beyond the last event, or shows none, waits for the
    /// next.
    pub(crate) long_poll: Option<LongPoll>,
}
