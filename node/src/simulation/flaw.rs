//! Flaws of the surroundings, for the test that they are found.

/// What can be wrong with the surroundings of the nodes: a simulation has to find that, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Disks report syncs that they do not make.
    DisksLie,
    /// Clients read from whoever takes himself for the leader, without a barrier.
    NoBarrier,
    /// Writes are stamped by the clock alone.
    BareClock,
}

/// All of them.
pub(super) const FLAWS: &[Flaw] = &[Flaw::DisksLie, Flaw::NoBarrier, Flaw::BareClock];
