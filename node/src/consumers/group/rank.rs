//! The order in which messages are handed out.

use super::progress::Key;

/// The place of a waiting message: those that were handed out before and replayed ones come first,
/// then new ones (contract/services 3.6, "Retry queue").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// It is of the stream of the group, and was never handed out.
    pub(super) is_new: bool,
    /// Which message.
    pub(super) key: Key,
}
