//! When a member that receives the log may vote.

use crate::raft::Seen;
use crate::transport::NodeId;

/// A member may vote once it lacks no more than this many log entries: about what is in flight to a
/// member that keeps up. An entry can be a MiB, and writes may have to wait for the new voter from
/// then on.
const CAUGHT_UP_WITHIN: u64 = 8;

/// Whether a member may vote, as the leader sees it.
pub(super) fn has_caught_up(seen: &Seen, id: NodeId) -> bool {
    seen.lag_of(id).is_some_and(|lag| lag <= CAUGHT_UP_WITHIN)
}
