//! What a read of a page asks for, whether its page is one of a stream or of the log.

use super::barrier::ReadBarrier;
use crate::event::paging::{PageSize, PageStart};
use crate::subscribe::LongPoll;

/// The part of a read that is the same for all pages.
#[derive(Debug, Clone)]
pub(crate) struct PageRequest {
    /// Where the page begins, and which way it goes.
    pub(crate) start: PageStart,
    /// How many numbers or positions the page spans.
    pub(crate) size: PageSize,
    /// What the read demands of the node.
    pub(crate) barrier: ReadBarrier,
    /// Versions of the stream or log that the caller need not be told of again: numbers or
    /// positions of the last event, -1 for none.
    pub(crate) known_versions: Vec<i64>,
    /// How long a forward page that begins beyond the last event, or shows none, waits for the
    /// next.
    pub(crate) long_poll: Option<LongPoll>,
}
