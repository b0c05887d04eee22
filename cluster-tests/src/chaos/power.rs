//! Power cuts: the nodes' data lie on disks that lose what was not synced (`crate::disk`).
//!
//! Syncs take a while before a cut, as on a disk that is busy, so that there is something to lose.
//! What is lost is what was written since the last sync, or by a seed some of it, torn. A leader
//! that lost its power often comes back last: then the others have to have what it acknowledged.

use std::time::Duration;

use anyhow::Context;

use super::nemesis::Nemesis;
use super::schedule::Blow;
use super::strike::{Field, NO_DISKS};
use super::upkeep;
use crate::disk::{Fault, Left};
use crate::power::Disks;

/// Before a cut, syncs take at most so much longer, on each disk another time: as long as a busy
/// disk needs, and short enough that no leader is deposed for it.
const LONGEST_SYNC_MS: u64 = 200;

/// How long they do.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// Of three cuts of a leader, it comes back last after two.
const LATE_OF: u64 = 3;

/// Why the power of nodes cannot be cut on this machine; `None` where it can.
pub fn why_not() -> Option<String> {
    Disks::mount(1).map(|mut disks| disks.passed()).err().map(|error| format!("{error:#}"))
}

/// Cuts the power; returns whether a disk has lost anything.
pub(super) async fn cut(field: &mut Field, blow: &Blow) -> anyhow::Result<bool> {
    let running = field.running();
    let leader = upkeep::leader(&field.cluster, &field.free()).await;
    let victims = victims(&running, leader, field.cluster.ids().len(), blow);
    let disks = field.disks.as_mut().context(NO_DISKS)?;
    let sync_ms = |id: u16| (blow.pick >> (9 * id)) % LONGEST_SYNC_MS;
    for id in &running {
        let longer = Fault::SyncTakes(Duration::from_millis(sync_ms(*id)));
        disks.of(*id)?.set_faults(vec![longer]);
    }
    tokio::time::sleep(BUSY_FOR).await;
    let lost = disks.cut(&mut field.cluster, &victims, |id| left(blow, id)).await?;
    for id in &running {
        disks.of(*id)?.set_faults(Vec::new());
    }
    let late = leader.filter(|leader| victims.contains(leader) && !(blow.pick >> 48).is_multiple_of(LATE_OF));
    field.went_down(&victims, late);
    let syncs: Vec<u64> = running.iter().map(|id| sync_ms(*id)).collect();
    let what = format!("nodes {victims:?}, leader {leader:?}, last {late:?}, syncs took {syncs:?} ms longer, {lost:?}");
    field.note(blow.nemesis.name(), &what);
    Ok(lost.bytes > 0 || lost.names > 0)
}

/// What the disk of a node still has of what was not synced.
pub(super) fn left(blow: &Blow, node: u16) -> Left {
    match blow.pick >> 40 & 1 {
        0 => Left::Synced,
        _ => Left::Some(blow.pick ^ u64::from(node)),
    }
}

/// The nodes whose power is cut, among those that run.
fn victims(running: &[u16], leader: Option<u16>, size: usize, blow: &Blow) -> Vec<u16> {
    let mut order = running.to_vec();
    let first = blow.pick as usize % order.len().max(1);
    order.rotate_left(first);
    match blow.nemesis {
        Nemesis::PowerCut => order.truncate(1),
        Nemesis::PowerCutMajority => {
            // With the leader, every other time.
            if blow.pick >> 32 & 1 == 0 {
                order.sort_by_key(|id| Some(*id) != leader);
            }
            order.truncate(size / 2 + 1);
        }
        _ => {}
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_as_small_as_it_can_be_and_may_have_the_leader() {
        let blow = |nemesis, pick| Blow { nemesis, pick };
        let cut = |nemesis, pick| victims(&[1, 2, 3, 4, 5], Some(4), 5, &blow(nemesis, pick));
        assert_eq!(cut(Nemesis::PowerCut, 7), [3]);
        assert_eq!(cut(Nemesis::PowerCutMajority, 0), [4, 1, 2]);
        assert_eq!(cut(Nemesis::PowerCutMajority, 1 << 32 | 4), [1, 2, 3]);
        assert_eq!(cut(Nemesis::PowerCutAll, 0), [1, 2, 3, 4, 5]);
        assert_eq!(victims(&[2], None, 3, &blow(Nemesis::PowerCutMajority, 9)), [2]);
        assert!(victims(&[], None, 3, &blow(Nemesis::PowerCut, 9)).is_empty());
    }
}
