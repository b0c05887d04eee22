//! Faults as they are inflicted and healed.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::artefacts::NemesisLog;
use super::clocks::{self, Moved};
use super::disks::Slowed;
use super::nemesis::{Company, Nemesis};
use super::schedule::{Blow, Step};
use super::{disks, power, upkeep};
use crate::cluster::Cluster;
use crate::history::{Kind, Recorder};
use crate::links::{Delay, Link, Rule, Seen, partition};
use crate::power::Disks;

/// Between two resets of the same links: a connection lives long enough to carry something.
const AGAIN_PERIOD: Duration = Duration::from_millis(150);

/// A fault of links goes on for so much longer until it has an effect: followers seldom call each
/// other.
const EFFECT_LIMIT: Duration = Duration::from_secs(5);

/// Of slow links: less than the load wants, so that queues grow.
const SLOW_BYTES_PER_SECOND: u32 = 200_000;

/// Packets that are lost, of a hundred: TCP goes on, slowly, and some heartbeats are late.
const LOST_PERCENT: std::ops::RangeInclusive<u64> = 5..=30;

/// Longest delay of a link: some heartbeats, and less than an election.
const LONGEST_DELAY_MS: u64 = 120;

/// Where a run has no [`Disks`].
pub(super) const NO_DISKS: &str = "the nodes have no disks of the suite";

/// What became of the faults of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Struck {
    /// Times that the schedule had it.
    pub(super) tried: u32,
    /// Times that its effect was seen.
    pub(super) happened: u32,
}

/// The cluster and what is wrong with it.
pub(super) struct Field {
    pub(super) cluster: Cluster,
    /// Disks of the nodes that lose what was not synced, where the power is to be cut. Unmounted
    /// when the nodes have ended.
    pub(super) disks: Option<Disks>,
    recorder: Recorder,
    log: NemesisLog,
    down: BTreeSet<u16>,
    paused: BTreeSet<u16>,
    /// A node that is down and is started when the others serve without it.
    late: Option<u16>,
    struck: BTreeMap<Nemesis, Struck>,
    /// Backups so far.
    pub(super) backups: u32,
    /// Logs of nodes that were started with a changed byte: their complaints are wanted.
    pub(super) damaged: Vec<String>,
}

/// A fault that is in force.
struct Wound {
    nemesis: Nemesis,
    part: Part,
}

/// What a fault that is in force has changed.
enum Part {
    /// Links, and what they had done before.
    Links(Vec<(Link, Seen)>),
    /// A clock.
    Clock(Moved),
    /// A disk.
    Disk(Slowed),
}

impl Field {
    pub(super) fn new(cluster: Cluster, disks: Option<Disks>, recorder: Recorder, log: NemesisLog) -> Self {
        let (down, paused) = Default::default();
        Self {
            cluster,
            disks,
            recorder,
            log,
            down,
            paused,
            late: None,
            struck: BTreeMap::new(),
            backups: 0,
            damaged: Vec::new(),
        }
    }

    /// How often each kind was tried and has happened.
    pub(super) fn struck(&self) -> &BTreeMap<Nemesis, Struck> {
        &self.struck
    }

    /// The log of all faults so far.
    pub(super) fn log(&self) -> &NemesisLog {
        &self.log
    }

    /// Inflicts the faults of a step, heals them and waits until all nodes are ready.
    pub(super) async fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        tokio::time::sleep(step.before).await;
        let mut wounds = Vec::new();
        let is_alone = step.blows.len() == 1;
        // What only slows things down is there first.
        let mut blows = step.blows.clone();
        blows.sort_by_key(|blow| blow.nemesis.company() == Company::Alone);
        for blow in &blows {
            self.struck.entry(blow.nemesis).or_default().tried += 1;
            let wound = self.begin(blow).await.with_context(|| blow.nemesis.name())?;
            if is_alone && leaves_majority(blow.nemesis) {
                let kind = if blow.nemesis == Nemesis::KillLeader { Kind::LeaderKilled } else { Kind::Other };
                self.recorder.fault_of(kind, blow.nemesis.name());
            }
            wounds.extend(wound);
        }
        self.in_force(&wounds, step.force).await?;
        self.mend().await?;
        let names: Vec<&str> = step.blows.iter().map(|blow| blow.nemesis.name()).collect();
        self.note("healed", &names.join(" and "));
        let partition_alone = is_alone && step.blows[0].nemesis.company() == Company::Partition;
        let kind = if partition_alone { Kind::PartitionHealed } else { Kind::Other };
        self.recorder.fault_of(kind, format!("healed {}", names.join(" and ")));
        self.cluster.wait_all_ready().await.with_context(|| format!("after {}", names.join(" and ")))?;
        for wound in wounds {
            // A clock is wrong until here: nodes have started and led with it.
            let has_effect = match wound.part {
                Part::Clock(moved) => clocks::has_effect(&self.cluster, moved).await,
                Part::Links(_) | Part::Disk(_) => self.has_effect(&wound)?,
            };
            if has_effect {
                self.happened(wound.nemesis);
            }
        }
        clocks::heal(&self.cluster)
    }

    /// Makes all links whole, all nodes run and all clocks right.
    pub(super) async fn heal(&mut self) -> anyhow::Result<()> {
        clocks::heal(&self.cluster)?;
        self.mend().await
    }

    /// Makes all links and disks whole and all nodes run.
    async fn mend(&mut self) -> anyhow::Result<()> {
        self.cluster.ruler()?.heal()?;
        self.disks.iter().for_each(Disks::heal);
        for id in std::mem::take(&mut self.paused) {
            self.cluster.resume(id)?;
            self.recorder.resumed(id);
        }
        self.down.clear();
        if let Some(late) = self.late.take() {
            self.start_without(late).await?;
        }
        // Also those that a fault was to start again, and failed to.
        self.cluster.start_all()
    }

    /// All others serve before the last node comes.
    async fn start_without(&mut self, late: u16) -> anyhow::Result<()> {
        let others: Vec<u16> = self.cluster.ids().into_iter().filter(|id| *id != late).collect();
        for id in &others {
            if self.cluster.pid(*id).is_err() {
                self.cluster.start(*id)?;
            }
        }
        for id in others {
            self.cluster.wait_ready(id).await.with_context(|| format!("without node {late}"))?;
        }
        Ok(())
    }

    /// These nodes are down from now on, frozen or not; `late` comes back last.
    pub(super) fn went_down(&mut self, nodes: &[u16], late: Option<u16>) {
        self.paused.retain(|id| !nodes.contains(id));
        self.down.extend(nodes);
        self.late = late.or(self.late);
    }

    pub(super) fn note(&mut self, what: &str, of: &str) {
        self.log.add(self.recorder.now(), what, of);
    }

    /// A fault of this kind has had its effect.
    fn happened(&mut self, nemesis: Nemesis) {
        self.struck.entry(nemesis).or_default().happened += 1;
    }

    async fn begin(&mut self, blow: &Blow) -> anyhow::Result<Option<Wound>> {
        match blow.nemesis.company() {
            Company::Process => self.strike_process(blow).await.map(|()| None),
            Company::Power => {
                if power::cut(self, blow).await? {
                    self.happened(blow.nemesis);
                }
                Ok(None)
            }
            Company::Partition => self.cut(blow).await.map(Some),
            Company::Trouble => self.trouble(blow).map(Some),
            Company::Clock => {
                let (nodes, free) = (self.cluster.ids(), self.free());
                let leader = upkeep::leader(&self.cluster, &free).await;
                let moved = clocks::strike(&self.cluster, blow, &nodes, leader)?;
                self.note(blow.nemesis.name(), &moved.to_string());
                Ok(Some(Wound { nemesis: blow.nemesis, part: Part::Clock(moved) }))
            }
            Company::Disk if blow.nemesis == Nemesis::SlowDisk => {
                let slowed = disks::slow(self, blow).await?;
                Ok(slowed.map(|slowed| Wound { nemesis: blow.nemesis, part: Part::Disk(slowed) }))
            }
            Company::Disk => {
                if disks::fail(self, blow).await? {
                    self.happened(blow.nemesis);
                }
                Ok(None)
            }
            Company::Alone => {
                self.note("begins", blow.nemesis.name());
                if upkeep::run(self, blow).await? {
                    self.happened(blow.nemesis);
                }
                Ok(None)
            }
        }
    }

    async fn strike_process(&mut self, blow: &Blow) -> anyhow::Result<()> {
        let free = self.free();
        let leader = upkeep::leader(&self.cluster, &free).await;
        let victim = match blow.nemesis {
            Nemesis::KillLeader | Nemesis::PauseLeader => leader,
            _ => free.get(blow.pick as usize % free.len().max(1)).copied(),
        };
        match blow.nemesis {
            Nemesis::KillAll => {
                // Frozen ones, too.
                self.cluster.kill_all().await?;
                std::mem::take(&mut self.paused).into_iter().for_each(|id| self.recorder.resumed(id));
                self.down.extend(self.cluster.ids());
                self.note("kill-all", "all nodes");
            }
            Nemesis::Pause | Nemesis::PauseLeader => {
                let Some(victim) = victim else { return Ok(()) };
                self.recorder.paused(victim);
                self.cluster.pause(victim)?;
                self.paused.insert(victim);
                self.note(blow.nemesis.name(), &format!("node {victim}"));
            }
            _ => {
                let Some(victim) = victim else { return Ok(()) };
                self.cluster.kill(victim).await?;
                self.down.insert(victim);
                self.note(blow.nemesis.name(), &format!("node {victim}"));
            }
        }
        self.happened(blow.nemesis);
        Ok(())
    }

    async fn cut(&mut self, blow: &Blow) -> anyhow::Result<Wound> {
        let nodes = self.cluster.ids();
        let leader = upkeep::leader(&self.cluster, &self.free()).await;
        let one = nodes[blow.pick as usize % nodes.len()];
        let links = match blow.nemesis {
            Nemesis::LeaderInMinority | Nemesis::LeaderInMajority => {
                let with_leader = blow.nemesis == Nemesis::LeaderInMinority;
                let (minority, majority) = halves(&nodes, leader.unwrap_or(one), with_leader);
                partition::split(&minority, &majority)
            }
            Nemesis::OneWay if blow.pick >> 32 & 1 == 0 => partition::mute(one, &nodes),
            Nemesis::OneWay => partition::deaf(one, &nodes),
            Nemesis::Ring => partition::ring(&nodes),
            _ => partition::bridge(one, &nodes),
        };
        let wound = self.wound(blow.nemesis, &links)?;
        self.cluster.ruler()?.cut(&links)?;
        let names: Vec<String> = links.iter().map(Link::to_string).collect();
        self.note(blow.nemesis.name(), &format!("leader {leader:?}, cut {}", names.join(" ")));
        Ok(wound)
    }

    fn trouble(&mut self, blow: &Blow) -> anyhow::Result<Wound> {
        let nodes = self.cluster.ids();
        let all: Vec<Link> = nodes.iter().flat_map(|node| partition::mute(*node, &nodes)).collect();
        let one = all[blow.pick as usize % all.len()];
        let links = match blow.nemesis {
            Nemesis::HalfOpen | Nemesis::Replay => vec![one],
            _ => all,
        };
        let wound = self.wound(blow.nemesis, &links)?;
        self.cluster.ruler()?.change(&links, |rule| worsen(rule, blow))?;
        let what = if links.len() == 1 { one.to_string() } else { "all links".to_owned() };
        self.note(blow.nemesis.name(), &what);
        Ok(wound)
    }

    fn wound(&self, nemesis: Nemesis, links: &[Link]) -> anyhow::Result<Wound> {
        let links = links.iter().copied().zip(self.cluster.ruler()?.seen(links)?).collect();
        Ok(Wound { nemesis, part: Part::Links(links) })
    }

    /// Lets time pass, and longer where a fault has had no effect yet; does what has to be done
    /// again and again meanwhile.
    async fn in_force(&self, wounds: &[Wound], force: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let elapsed = started.elapsed();
            if elapsed >= force && (self.have_effect(wounds)? || elapsed >= force + EFFECT_LIMIT) {
                return Ok(());
            }
            for wound in wounds {
                self.strike_again(wound).await?;
            }
            tokio::time::sleep(AGAIN_PERIOD).await;
        }
    }

    async fn strike_again(&self, wound: &Wound) -> anyhow::Result<()> {
        if !matches!(wound.nemesis, Nemesis::Reset | Nemesis::Replay) {
            return Ok(());
        }
        let (Part::Links(struck), links) = (&wound.part, self.cluster.links()?) else { return Ok(()) };
        for (link, _) in struck {
            links.reset(link.from, link.to);
            if wound.nemesis == Nemesis::Replay {
                // A connection has to end before its bytes can come again. A node that is down
                // hears none of it.
                let _ = links.replay(*link).await;
            }
        }
        Ok(())
    }

    /// Whether all faults of links and disks have done what was wanted of them.
    fn have_effect(&self, wounds: &[Wound]) -> anyhow::Result<bool> {
        for wound in wounds {
            if !self.has_effect(wound)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether links or a disk have done what was wanted of them. A clock shows it later.
    fn has_effect(&self, wound: &Wound) -> anyhow::Result<bool> {
        match &wound.part {
            Part::Clock(_) => Ok(true),
            Part::Disk(slowed) => slowed.has_effect(self),
            Part::Links(struck) => {
                let links: Vec<Link> = struck.iter().map(|(link, _)| *link).collect();
                let now = self.cluster.ruler()?.seen(&links)?;
                Ok(struck.iter().zip(now).any(|((_, before), now)| has_effect(wound.nemesis, before, &now)))
            }
        }
    }

    /// The disks of the nodes.
    pub(super) fn disks(&self) -> anyhow::Result<&Disks> {
        self.disks.as_ref().context(NO_DISKS)
    }

    /// The disks of the nodes, to cut their power.
    pub(super) fn disks_mut(&mut self) -> anyhow::Result<&mut Disks> {
        self.disks.as_mut().context(NO_DISKS)
    }

    /// Nodes that run, frozen or not.
    pub(super) fn running(&self) -> Vec<u16> {
        self.cluster.ids().into_iter().filter(|id| !self.down.contains(id)).collect()
    }

    /// Nodes that run and are not frozen.
    pub(super) fn free(&self) -> Vec<u16> {
        let is_free = |id: &u16| !self.down.contains(id) && !self.paused.contains(id);
        self.cluster.ids().into_iter().filter(is_free).collect()
    }
}

/// What this fault does to the rule of a link.
fn worsen(rule: &mut Rule, blow: &Blow) {
    match blow.nemesis {
        Nemesis::Delay => {
            let longest = 1 + blow.pick % LONGEST_DELAY_MS;
            rule.delay = Delay { least: Duration::from_millis(longest / 3), jitter: Duration::from_millis(longest) };
        }
        Nemesis::Bandwidth => rule.bytes_per_second = NonZeroU32::new(SLOW_BYTES_PER_SECOND),
        Nemesis::Loss => {
            let (least, most) = LOST_PERCENT.into_inner();
            rule.lost_percent = (least + blow.pick % (most - least + 1)) as u8;
        }
        Nemesis::HalfOpen => rule.half_open = true,
        // These strike again and again instead.
        _ => {}
    }
}

/// Whether a link has done what was wanted of it.
fn has_effect(nemesis: Nemesis, before: &Seen, now: &Seen) -> bool {
    match nemesis {
        Nemesis::Delay => now.delayed > before.delayed,
        Nemesis::Bandwidth => now.delayed > before.delayed || now.excess_packets > before.excess_packets,
        Nemesis::Loss => now.lost_packets > before.lost_packets,
        Nemesis::HalfOpen => now.swallowed_bytes > before.swallowed_bytes,
        Nemesis::Reset => now.resets > before.resets,
        Nemesis::Replay => now.replayed_bytes > before.replayed_bytes,
        _ => {
            let of = |seen: &Seen| seen.held + seen.resets + seen.dropped_packets;
            of(now) > of(before)
        }
    }
}

/// Whether this fault alone leaves a majority that can go on.
fn leaves_majority(nemesis: Nemesis) -> bool {
    use Nemesis::{
        Bridge, Kill, KillLeader, LeaderInMajority, LeaderInMinority, OneWay, Pause, PauseLeader, PowerCut, Transfer,
    };
    match nemesis.company() {
        Company::Clock | Company::Disk => true,
        Company::Partition => matches!(nemesis, LeaderInMinority | LeaderInMajority | OneWay | Bridge),
        _ => matches!(nemesis, Kill | KillLeader | Pause | PauseLeader | PowerCut | Transfer),
    }
}

/// The largest minority, with or without one of the nodes, and the rest.
fn halves(nodes: &[u16], one: u16, with_it: bool) -> (Vec<u16>, Vec<u16>) {
    let others: Vec<u16> = nodes.iter().copied().filter(|node| *node != one).collect();
    let size = (nodes.len() - 1) / 2;
    let (mut minority, mut majority) = if with_it {
        (others[..size - 1].to_vec(), others[size - 1..].to_vec())
    } else {
        (others[..size].to_vec(), others[size..].to_vec())
    };
    if with_it { &mut minority } else { &mut majority }.push(one);
    (minority, majority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minority_is_as_large_as_it_can_be() {
        assert_eq!(halves(&[1, 2, 3], 2, true), (vec![2], vec![1, 3]));
        assert_eq!(halves(&[1, 2, 3], 2, false), (vec![1], vec![3, 2]));
        assert_eq!(halves(&[1, 2, 3, 4, 5], 1, true), (vec![2, 1], vec![3, 4, 5]));
        assert_eq!(halves(&[1, 2, 3, 4, 5], 1, false), (vec![2, 3], vec![4, 5, 1]));
    }
}
