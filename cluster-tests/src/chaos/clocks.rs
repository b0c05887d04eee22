//! Wall clocks that jump and drift.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::nemesis::Nemesis;
use super::schedule::Blow;
use crate::cluster::Cluster;
use crate::wait;

/// Jumps in seconds: from what a node takes for a jump at all to an hour, there and back.
const JUMPS_S: [i32; 8] = [10, -10, 60, -60, 600, -600, 3_600, -3_600];

/// Seconds that a drifting clock gains in a second: it runs too fast, backwards, or hardly.
const GAINS: [i32; 4] = [1, 3, -2, -3];

/// A clock is wrong by at least so much before its drift counts as seen.
const SEEN_S: f64 = 4.0;

/// The answer takes its way, and a drifting clock moves meanwhile.
const TOLERANCE_S: f64 = 3.0;

/// A drifting clock shows it within this time.
const EFFECT_LIMIT: Duration = Duration::from_secs(10);

/// Log lines that clocks provoke.
pub(super) const PROVOKED: [&str; 1] = ["WARN*the clock of this machine jumped"];

/// A clock that was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    node: u16,
    /// Whether `by` is gained in every second, and not at once.
    drifts: bool,
    /// Seconds.
    by: i32,
}

impl fmt::Display for Moved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = if self.drifts { " in a second" } else { "" };
        write!(formatter, "node {}, {:+} s{per}", self.node, self.by)
    }
}

/// Moves the clock of the leader or of another node.
pub(super) fn strike(cluster: &Cluster, blow: &Blow, nodes: &[u16], leader: Option<u16>) -> anyhow::Result<Moved> {
    let moved = choose(blow, nodes, leader);
    let clocks = cluster.clocks()?;
    if moved.drifts {
        clocks.drift(moved.node, moved.by.into())?;
    } else {
        clocks.jump(moved.node, moved.by.into())?;
    }
    Ok(moved)
}

/// Half of them strike the leader, whose clock stamps the writes.
fn choose(blow: &Blow, nodes: &[u16], leader: Option<u16>) -> Moved {
    let any = nodes[blow.pick as usize % nodes.len()];
    let node = leader.filter(|_| blow.pick >> 32 & 1 == 0).unwrap_or(any);
    let drifts = blow.nemesis == Nemesis::ClockDrift;
    let kinds = if drifts { &GAINS[..] } else { &JUMPS_S[..] };
    Moved { node, drifts, by: kinds[(blow.pick >> 33) as usize % kinds.len()] }
}

/// Whether the node shows the time of its moved clock to its clients.
pub(super) async fn has_effect(cluster: &Cluster, moved: Moved) -> bool {
    let shown = wait::until("the clock is wrong", EFFECT_LIMIT, || async {
        let shown = cluster.client().time(&cluster.base(moved.node)).await?;
        let shown_s = shown.duration_since(Timestamp::now()).as_secs_f64();
        let expected_s = cluster.clocks()?.ahead_s(moved.node);
        let tolerance_s = TOLERANCE_S + if moved.drifts { f64::from(moved.by.abs()) } else { 0.0 };
        anyhow::ensure!(shown_s.abs() >= SEEN_S && (shown_s - expected_s).abs() <= tolerance_s, "{shown_s} s ahead");
        Ok(())
    });
    shown.await.is_ok()
}

/// Sets all clocks right, if they can be moved at all.
pub(super) fn heal(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.clocks().map_or(Ok(()), |clocks| clocks.heal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_and_drift_comes_for_the_leader_and_for_others() {
        for nemesis in [Nemesis::ClockJump, Nemesis::ClockDrift] {
            // Of the nodes the first, unless the leader is struck.
            let picks = (0..16u64).map(|pick| pick << 32).map(|pick| pick + (3 - pick % 3) % 3);
            let moved: Vec<Moved> = picks.map(|pick| choose(&Blow { nemesis, pick }, &[1, 2, 3], Some(3))).collect();
            let kinds = if nemesis == Nemesis::ClockDrift { &GAINS[..] } else { &JUMPS_S[..] };
            for by in kinds {
                let of_this: Vec<u16> = moved.iter().filter(|moved| moved.by == *by).map(|moved| moved.node).collect();
                assert!(of_this.contains(&3) && of_this.contains(&1), "{by}: {of_this:?}");
            }
        }
    }
}
