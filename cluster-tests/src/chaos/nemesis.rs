//! The kinds of faults.

use std::str::FromStr;

/// A kind of fault, by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nemesis {
    /// `kill -9` of a node.
    Kill,
    /// `kill -9` of the leader.
    KillLeader,
    /// `kill -9` of all nodes.
    KillAll,
    /// A node is frozen by SIGSTOP.
    Pause,
    /// The leader is frozen by SIGSTOP.
    PauseLeader,
    /// Every node is stopped in order and started again, one after the other.
    RollingRestart,
    /// Leadership is handed to another node.
    Transfer,
    /// The leader is cut off with a minority.
    LeaderInMinority,
    /// A minority without the leader is cut off.
    LeaderInMajority,
    /// A node is not heard any more, or hears nothing any more.
    OneWay,
    /// Every node reaches its neighbours only.
    Ring,
    /// Two halves that only one node reaches.
    Bridge,
    /// All links have delay and jitter.
    Delay,
    /// All links are slow.
    Bandwidth,
    /// All links lose packets at random.
    Loss,
    /// Connections of a node to another are dead, and it does not know.
    HalfOpen,
    /// Connections are reset, again and again.
    Reset,
    /// Bytes of ended connections are sent once more.
    Replay,
    /// A node is away until the others have purged the log that it needs.
    Lag,
    /// A node loses its disk and rejoins with an empty one.
    Wipe,
    /// A node is added to the cluster and removed again.
    Grow,
    /// A voter becomes a replica and votes again.
    Demote,
    /// Every node is exchanged for one of the last release, one after the other, and back.
    Upgrade,
    /// What nobody can see any more is removed.
    Scavenge,
    /// A node is backed up and the backup verified.
    Backup,
    /// A byte changes in a file of a stopped node.
    BitRot,
    /// The wall clock of a node jumps.
    ClockJump,
    /// The wall clock of a node is too fast, stands still or goes backwards.
    ClockDrift,
    /// The power of a node is cut: its disk loses what was not synced.
    PowerCut,
    /// The power of a majority is cut at one moment.
    PowerCutMajority,
    /// The power of all nodes is cut at one moment.
    PowerCutAll,
    /// The disk of a node takes long to sync.
    SlowDisk,
    /// The disk of a node fails to sync.
    SyncError,
    /// The disk of a node fails to read.
    ReadError,
    /// The disk of a node is full.
    FullDisk,
}

/// How a kind of fault goes together with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    /// Needs all nodes, and waits by itself for what it wants: only what slows it down may happen
    /// meanwhile.
    Alone,
    /// Strikes a process.
    Process,
    /// Strikes a process and its disk.
    Power,
    /// Changes links, so that some nodes do not reach others.
    Partition,
    /// Changes links, so that everything takes longer or is sent again.
    Trouble,
    /// Changes the wall clock of a node.
    Clock,
    /// Strikes the disk of a node, which ends for it unless the disk is only slow.
    Disk,
}

/// All kinds with their names on the command line: the one place where they are registered. A
/// company is a file, `strike` for processes and links, `upkeep` for those alone, `power` for cuts,
/// `clocks` for clocks, `disks` for disks.
const KINDS: [(Nemesis, &str, Company); 35] = [
    (Nemesis::Kill, "kill", Company::Process),
    (Nemesis::KillLeader, "kill-leader", Company::Process),
    (Nemesis::KillAll, "kill-all", Company::Process),
    (Nemesis::Pause, "pause", Company::Process),
    (Nemesis::PauseLeader, "pause-leader", Company::Process),
    (Nemesis::RollingRestart, "rolling-restart", Company::Alone),
    (Nemesis::Transfer, "transfer", Company::Alone),
    (Nemesis::LeaderInMinority, "leader-in-minority", Company::Partition),
    (Nemesis::LeaderInMajority, "leader-in-majority", Company::Partition),
    (Nemesis::OneWay, "one-way", Company::Partition),
    (Nemesis::Ring, "ring", Company::Partition),
    (Nemesis::Bridge, "bridge", Company::Partition),
    (Nemesis::Delay, "delay", Company::Trouble),
    (Nemesis::Bandwidth, "bandwidth", Company::Trouble),
    (Nemesis::Loss, "loss", Company::Trouble),
    (Nemesis::HalfOpen, "half-open", Company::Trouble),
    (Nemesis::Reset, "reset", Company::Trouble),
    (Nemesis::Replay, "replay", Company::Trouble),
    (Nemesis::Lag, "lag", Company::Alone),
    (Nemesis::Wipe, "wipe", Company::Alone),
    (Nemesis::Grow, "grow", Company::Alone),
    (Nemesis::Demote, "demote", Company::Alone),
    (Nemesis::Upgrade, "upgrade", Company::Alone),
    (Nemesis::Scavenge, "scavenge", Company::Alone),
    (Nemesis::Backup, "backup", Company::Alone),
    (Nemesis::BitRot, "bit-rot", Company::Alone),
    (Nemesis::ClockJump, "clock-jump", Company::Clock),
    (Nemesis::ClockDrift, "clock-drift", Company::Clock),
    (Nemesis::PowerCut, "power-cut", Company::Power),
    (Nemesis::PowerCutMajority, "power-cut-majority", Company::Power),
    (Nemesis::PowerCutAll, "power-cut-all", Company::Power),
    (Nemesis::SlowDisk, "slow-disk", Company::Disk),
    (Nemesis::SyncError, "sync-error", Company::Disk),
    (Nemesis::ReadError, "read-error", Company::Disk),
    (Nemesis::FullDisk, "full-disk", Company::Disk),
];

impl Nemesis {
    /// All kinds. None of the modes has all of them: [`super::ModeName::nemeses`].
    pub const ALL: [Self; KINDS.len()] = {
        let mut all = [Self::Kill; KINDS.len()];
        let mut place = 0;
        while place < all.len() {
            all[place] = KINDS[place].0;
            place += 1;
        }
        all
    };

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        KINDS[self as usize].1
    }

    /// Whether the nodes need disks of the suite, which fail and lose what was not synced.
    pub fn needs_disks(self) -> bool {
        matches!(self.company(), Company::Power | Company::Disk)
    }

    /// Whether it needs the program of the last release.
    pub fn needs_last_release(self) -> bool {
        self == Self::Upgrade
    }

    /// Whether it moves the clock of a node, which needs libfaketime.
    pub fn moves_clocks(self) -> bool {
        self.company() == Company::Clock
    }

    pub(super) fn company(self) -> Company {
        KINDS[self as usize].2
    }

    /// Whether both may be in force at once.
    pub(super) fn goes_with(self, other: Self) -> bool {
        let slows = |nemesis: Self| matches!(nemesis, Self::Delay | Self::Replay);
        match (self.company(), other.company()) {
            (Company::Alone, Company::Alone) | (Company::Clock, Company::Clock) => false,
            // What the last release did wrong with clocks is known.
            (Company::Clock, _) | (_, Company::Clock) => self != Self::Upgrade && other != Self::Upgrade,
            (Company::Alone, _) => slows(other),
            (_, Company::Alone) => slows(self),
            // A disk without power has no other fault.
            (Company::Power | Company::Disk, Company::Power | Company::Disk) => false,
            (Company::Disk, _) => other != Self::KillAll,
            (_, Company::Disk) => self != Self::KillAll,
            _ => self != other,
        }
    }
}

impl FromStr for Nemesis {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names: Vec<&str> = Self::ALL.iter().map(|nemesis| nemesis.name()).collect();
        let found = Self::ALL.into_iter().find(|nemesis| nemesis.name() == name);
        found.ok_or_else(|| format!("there is no nemesis {name}; there are {}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nemesis_has_a_name_of_its_own() {
        for nemesis in Nemesis::ALL {
            assert_eq!(KINDS[nemesis as usize].0, nemesis);
            assert_eq!(nemesis.name().parse(), Ok(nemesis));
        }
        assert!("other".parse::<Nemesis>().is_err());
    }

    #[test]
    fn what_needs_all_nodes_is_only_slowed_down() {
        assert!(Nemesis::Wipe.goes_with(Nemesis::Delay) && Nemesis::Delay.goes_with(Nemesis::Wipe));
        assert!(!Nemesis::Wipe.goes_with(Nemesis::Kill) && !Nemesis::Wipe.goes_with(Nemesis::Grow));
        assert!(Nemesis::Wipe.goes_with(Nemesis::ClockJump) && !Nemesis::ClockJump.goes_with(Nemesis::ClockDrift));
        assert!(Nemesis::Kill.goes_with(Nemesis::Ring) && !Nemesis::Ring.goes_with(Nemesis::Ring));
        assert!(Nemesis::SyncError.goes_with(Nemesis::Kill) && Nemesis::Ring.goes_with(Nemesis::SlowDisk));
        assert!(!Nemesis::PowerCut.goes_with(Nemesis::SlowDisk) && !Nemesis::KillAll.goes_with(Nemesis::FullDisk));
        assert!(!Nemesis::Upgrade.goes_with(Nemesis::ClockJump) && Nemesis::Upgrade.goes_with(Nemesis::Delay));
    }
}
