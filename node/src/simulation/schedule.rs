//! What befalls a cluster, and when, as it follows from a seed.

use rand::RngExt;
use rand::rngs::StdRng;

use super::node::Settings;

/// One misfortune. Nodes are named by their number; the leader is whoever leads at that time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Strike {
    /// The process of a node is killed, and started again later.
    Kill { node: Whom, for_ms: u64 },
    /// The power of a node fails.
    Power { node: Whom, for_ms: u64 },
    /// The power of all nodes fails at once.
    PowerOfAll { for_ms: u64 },
    /// A node is stopped in order.
    Stop { node: Whom, for_ms: u64 },
    /// A node stands still; its monotonic clock may go on.
    Pause { node: Whom, for_ms: u64, clock_goes_on: bool },
    /// What a node sends does not arrive, or what is sent to it, or both.
    CutOff { node: Whom, sends: bool, receives: bool, for_ms: u64 },
    /// The nodes below this number and the others do not reach each other.
    Partition { below: usize, for_ms: u64 },
    /// The connections between two nodes break.
    Reset { one: usize, other: usize },
    /// What one node sends another is late.
    Slow { from: usize, to: usize, for_ms: u64, slow_ms: u64 },
    /// Syncs of a node take long.
    SlowDisk { node: Whom, for_ms: u64 },
    /// The time of day of a node jumps.
    ClockJumps { node: usize, by_ms: i64 },
    /// The monotonic clock of a node is fast or slow, in thousandths.
    ClockDrifts { node: usize, by: i64 },
    /// A node writes its state to disk.
    Flush { node: usize },
    /// The leader hands over.
    HandOver { to: usize },
    /// A node that does not vote takes the place of one that does.
    SwapMember,
}

/// Who is meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whom {
    Leader,
    Node(usize),
}

/// The plan of one simulation.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    /// Of them, those that found the cluster.
    pub(super) founders: usize,
    pub(super) settings: Settings,
    pub(super) latency_ms: (u64, u64),
    /// Nodes take turns of this length: no message is faster, so none comes too late for its turn.
    pub(super) turn_ms: u64,
    /// Misfortunes and new writes end at this time.
    pub(super) active_ms: u64,
    /// One operation begins in so many milliseconds.
    pub(super) pace_ms: u64,
    pub(super) strikes: Vec<(u64, Strike)>,
}

impl Plan {
    pub(super) fn new(rng: &mut StdRng, disks_lie: bool) -> Self {
        let (nodes, founders) = [(3, 3), (3, 3), (4, 3), (5, 5), (5, 3)][rng.random_range(0..5)];
        let heartbeat_ms = rng.random_range(40..=120);
        let election_min = heartbeat_ms * rng.random_range(3..=5);
        let settings = Settings {
            heartbeat_ms,
            election_ms: (election_min, election_min * 2),
            snapshot_log_bytes: rng.random_range(8..128) << 10,
            keep_log_bytes: rng.random_range(0..3) * (8 << 10),
            sync_ms: [(0, 1), (1, 4), (2, 30)][rng.random_range(0..3)],
            disks_lie,
        };
        let latency_ms = [(1, 4), (2, 12), (5, 40)][rng.random_range(0..3)];
        let active_ms = rng.random_range(15_000..60_000);
        let pace_ms = rng.random_range(40..300);
        let mut strikes = Vec::new();
        let gap = rng.random_range(500..4_000);
        let mut at = 2_000;
        while at < active_ms {
            strikes.push((at, strike(rng, nodes)));
            at += rng.random_range(50..2 * gap);
        }
        let turn_ms = latency_ms.0;
        Self { nodes, founders, settings, latency_ms, turn_ms, active_ms, pace_ms, strikes }
    }
}

fn whom(rng: &mut StdRng, nodes: usize) -> Whom {
    if rng.random_range(0..2) == 0 { Whom::Leader } else { Whom::Node(rng.random_range(0..nodes)) }
}

fn strike(rng: &mut StdRng, nodes: usize) -> Strike {
    let node = whom(rng, nodes);
    let number = rng.random_range(0..nodes);
    let other = (number + rng.random_range(1..nodes)) % nodes;
    let for_ms = [rng.random_range(20..500), rng.random_range(500..3_000), rng.random_range(3_000..9_000)]
        [rng.random_range(0..3)];
    match rng.random_range(0..30) {
        0..4 => Strike::Kill { node, for_ms },
        4..8 => Strike::Power { node, for_ms },
        8 => Strike::PowerOfAll { for_ms },
        9..11 => Strike::Stop { node, for_ms },
        11..14 => Strike::Pause { node, for_ms, clock_goes_on: rng.random_range(0..2) == 0 },
        14..17 => {
            let (sends, receives) = [(true, true), (true, false), (false, true)][rng.random_range(0..3)];
            Strike::CutOff { node, sends, receives, for_ms }
        }
        17..19 => Strike::Partition { below: rng.random_range(1..nodes), for_ms },
        19..21 => Strike::Reset { one: number, other },
        21 => Strike::Slow { from: number, to: other, for_ms, slow_ms: rng.random_range(20..1_500) },
        22 => Strike::SlowDisk { node, for_ms },
        23 => Strike::ClockJumps { node: number, by_ms: rng.random_range(-3_600_000..3_600_000) },
        24 => Strike::ClockDrifts { node: number, by: rng.random_range(-80..=80) },
        25 => Strike::Flush { node: number },
        26..28 => Strike::HandOver { to: number },
        _ => Strike::SwapMember,
    }
}
