//! How soon a cluster recovers, measured: from the death of a leader, from a partition, and how
//! fast a node that was away catches up.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::check;
use crate::check::recovery::{Recovery, Times};
use crate::cluster::{Cluster, Options};
use crate::feed;
use crate::history::Kind;
use crate::links::partition;
use crate::wait;
use crate::workload::{Rate, Workload};

/// A cluster that does not go on within this time does not recover.
const LIMIT: Duration = Duration::from_secs(60);

/// How long the leader is cut off: long enough for another one to lead.
const CUT: Duration = Duration::from_secs(3);

/// Load without faults between two of them.
const BETWEEN_EVENTS: usize = 100;

/// More than the nodes can take, so that they append as fast as they can.
const HEAVY: Rate = Rate { writers_per_node: 16, writes_per_second: 200, payload_bytes: 100 };

/// A node that was away and came back.
#[derive(Debug, Clone, Copy)]
pub struct CatchUp {
    /// Whether appends went on meanwhile.
    pub under_load: bool,
    /// Events that were stored while it was away.
    pub missed: f64,
    /// How long it was away.
    pub away: Duration,
    /// From the start of its process until it had the last event that it had missed.
    pub took: Duration,
}

impl CatchUp {
    /// Events per second that were appended while the node was away.
    pub fn append_rate(&self) -> f64 {
        self.missed / self.away.as_secs_f64()
    }

    /// How many times faster it caught up.
    pub fn times_faster(&self) -> f64 {
        self.away.as_secs_f64() / self.took.as_secs_f64()
    }
}

/// All figures.
#[derive(Debug)]
pub struct Figures {
    /// Of kills and partitions.
    pub recovery: Recovery,
    /// Of nodes that were away.
    pub catch_ups: Vec<CatchUp>,
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.recovery)?;
        for one in &self.catch_ups {
            let load = if one.under_load { "while appends went on" } else { "without load" };
            writeln!(
                formatter,
                "a follower that missed {:.0} events in {:.0} s ({:.0} a second) had them {:.1} s after its start {load}: \
                 {:.1} times the append rate",
                one.missed,
                one.away.as_secs_f64(),
                one.append_rate(),
                one.took.as_secs_f64(),
                one.times_faster(),
            )?;
        }
        Ok(())
    }
}

/// Measures `rounds` kills and partitions, and twice as many seconds of absence, with and without
/// load. Fails when an event is lost.
pub async fn measure(rounds: u32, away: Duration) -> anyhow::Result<Figures> {
    let recovery = kills_and_partitions(rounds).await?;
    let mut catch_ups = Vec::new();
    for under_load in [true, false] {
        catch_ups.push(catch_up(away, under_load).await?);
    }
    Ok(Figures { recovery, catch_ups })
}

async fn kills_and_partitions(rounds: u32) -> anyhow::Result<Recovery> {
    let mut cluster = Cluster::started(3, Options { links: Some(0), ..Options::default() }).await?;
    let nodes = cluster.ids();
    let workload = Workload::start(&cluster, Rate::default())?;
    for _ in 0..rounds {
        workload.progress(BETWEEN_EVENTS, LIMIT).await?;
        let leader = cluster.leader().await?;
        cluster.kill(leader).await?;
        workload.recorder().fault_of(Kind::LeaderKilled, format!("kill -9 of leader {leader}"));
        workload.resumed(LIMIT).await?;
        cluster.start(leader)?;
        cluster.wait_ready(leader).await?;

        workload.progress(BETWEEN_EVENTS, LIMIT).await?;
        let leader = cluster.leader().await?;
        let others: Vec<u16> = nodes.iter().copied().filter(|node| *node != leader).collect();
        cluster.ruler()?.cut(&partition::split(&[leader], &others))?;
        // How long it lasts is the fault itself.
        tokio::time::sleep(CUT).await;
        cluster.ruler()?.heal()?;
        workload.recorder().fault_of(Kind::PartitionHealed, format!("leader {leader} is heard again"));
        cluster.wait_all_ready().await?;
    }
    workload.progress(BETWEEN_EVENTS, LIMIT).await?;
    let history = workload.stop().await?;
    let feeds = feed::read_all(cluster.client(), &cluster.bases(), 512, LIMIT).await?;
    check::none(&check::data(&history, &feeds))?;
    cluster.passed()?;
    let recovery = Recovery::of(&history, &nodes);
    let measured = |times: &Times| times.median().is_some();
    anyhow::ensure!(measured(&recovery.leader_killed) && measured(&recovery.partition_healed), "nothing was measured");
    Ok(recovery)
}

async fn catch_up(away: Duration, under_load: bool) -> anyhow::Result<CatchUp> {
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let (leader, follower) = (cluster.leader().await?, cluster.follower().await?);
    let workload = Workload::start(&cluster, HEAVY)?;
    workload.progress(BETWEEN_EVENTS, LIMIT).await?;

    cluster.kill(follower).await?;
    let (gone, before) = (Instant::now(), stored(&cluster, leader).await?);
    tokio::time::sleep(away).await;
    let (missed, was_away) = (stored(&cluster, leader).await? - before, gone.elapsed());
    let mut workload = Some(workload);
    if !under_load && let Some(load) = workload.take() {
        load.stop().await?;
    }
    let newest = newest(&cluster, leader).await?;
    let started = Instant::now();
    cluster.start(follower)?;
    let url = format!("{}/streams/{}/{}", cluster.base(follower), newest.stream, newest.number);
    wait::until("the follower has what it missed", LIMIT, || async {
        let status = cluster.client().get(&url, &[("Accept", "application/json")]).await?.status();
        anyhow::ensure!(status.is_success(), "{status}");
        Ok(())
    })
    .await?;
    let took = started.elapsed();
    if let Some(load) = workload {
        load.stop().await?;
    }
    cluster.passed()?;
    Ok(CatchUp { under_load, missed, away: was_away, took })
}

/// Events that a node has stored since its start.
async fn stored(cluster: &Cluster, node: u16) -> anyhow::Result<f64> {
    cluster.client().metric(&cluster.base(node), "headwater_applied_events_total").await
}

async fn newest(cluster: &Cluster, node: u16) -> anyhow::Result<feed::ReadEvent> {
    let url = format!("{}/streams/%24all/head/backward/1?embed=body", cluster.base(node));
    let page = cluster.client().get_feed(&url, &[]).await?;
    feed::entries(&page)?.into_iter().next().context("the log is empty")
}
