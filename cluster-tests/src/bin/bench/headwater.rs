//! The nodes under measurement: the harness's cluster, with additions for the bench.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::usage;

use crate::generator::{self, Load, Pace};
use crate::requests::Template;

/// Streams over which appends are spread: neither one stream nor one stream per event is measured.
pub(crate) const STREAMS: u64 = 1_000;

/// How long [`Headwater::settle`] observes the processor time used.
const SETTLE_WINDOW: Duration = Duration::from_secs(2);

/// How long it waits in all.
const SETTLE_DEADLINE: Duration = Duration::from_secs(300);

/// Bytes of data in an event.
pub(crate) const EVENT_BYTES: usize = 256;

/// Events per POST while a store is filled.
const BATCH: usize = 250;

/// Connections that fill a store.
const LOADERS: usize = 8;

/// How to stop a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// By SIGTERM.
    Ordered,
    /// By SIGKILL.
    Killed,
}

/// A cluster of one or three nodes, and the request numbers already used on it.
#[derive(Debug)]
pub(crate) struct Headwater {
    cluster: Cluster,
    /// Makes streams and ids of this cluster differ from those of other clusters.
    pub(crate) run: u32,
    next_number: u64,
}

impl Headwater {
    /// Starts nodes with default options and waits until they are ready.
    pub(crate) async fn start(nodes: u16) -> anyhow::Result<Self> {
        Self::start_with(nodes, None).await
    }

    /// The same with another program than the one next to the bench.
    pub(crate) async fn start_with(nodes: u16, binary: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut cluster = Cluster::started(nodes, Options { binary, ..Options::default() }).await?;
        // A bench leaves no files behind, even when it fails.
        cluster.passed()?;
        Ok(Self { cluster, run: rand::random(), next_number: 0 })
    }

    /// HTTP address of a node.
    pub(crate) fn address(&self, id: u16) -> anyhow::Result<SocketAddr> {
        self.cluster.base(id).trim_start_matches("http://").parse().context("no address")
    }

    /// HTTP address of the leader.
    pub(crate) async fn leader(&self) -> anyhow::Result<SocketAddr> {
        self.address(self.cluster.leader().await?)
    }

    /// HTTP address of a follower.
    pub(crate) async fn follower(&self) -> anyhow::Result<SocketAddr> {
        self.address(self.cluster.follower().await?)
    }

    /// All processes.
    pub(crate) fn pids(&self) -> anyhow::Result<Vec<u32>> {
        self.cluster.ids().into_iter().map(|id| self.cluster.pid(id)).collect()
    }

    /// Appends of one event per POST.
    pub(crate) fn appends(&self, address: SocketAddr, connections: usize, duration: Duration, pace: Pace) -> Load {
        Load {
            address,
            connections,
            template: Template::append(self.run, STREAMS, EVENT_BYTES),
            first_number: self.next_number,
            expected_status: 201,
            duration,
            requests: u64::MAX,
            pace,
        }
    }

    /// Numbers of a finished load must not be used again: a node would recognise the ids.
    pub(crate) fn continue_from(&mut self, number: u64) {
        self.next_number = self.next_number.max(number);
    }

    /// Fills the store with `events` events, with a line of progress every few seconds.
    pub(crate) async fn fill(&mut self, events: u64) -> anyhow::Result<()> {
        let started = Instant::now();
        let total = events.div_ceil(BATCH as u64);
        let step = (total / 20).max(1);
        let mut done = 0;
        while done < total {
            let requests = step.min(total - done);
            let load = Load {
                address: self.leader().await?,
                connections: LOADERS,
                template: Template::append_batch(self.run, STREAMS, EVENT_BYTES, BATCH),
                first_number: self.next_number,
                expected_status: 201,
                duration: Duration::MAX,
                requests,
                pace: Pace::Closed,
            };
            let measured = generator::run(load).await?;
            anyhow::ensure!(measured.errors == 0, "filling the store failed: {:?}", measured.first_error);
            self.next_number += measured.sent;
            done += requests;
            let loaded = done * BATCH as u64;
            let per_second = loaded as f64 / started.elapsed().as_secs_f64();
            eprintln!("  {loaded} of {events} events loaded, {per_second:.0}/s");
        }
        Ok(())
    }

    /// Stops a node, starts it again and returns the time to readiness.
    pub(crate) async fn restart(&mut self, id: u16, end: End) -> anyhow::Result<Duration> {
        match end {
            End::Ordered => {
                let status = self.cluster.terminate(id).await?;
                anyhow::ensure!(status.success(), "an ordered shutdown ended with {status}");
            }
            End::Killed => self.cluster.kill(id).await?,
        }
        let started = Instant::now();
        self.cluster.start(id)?;
        self.cluster.wait_ready(id).await?;
        Ok(started.elapsed())
    }

    /// Kills all nodes at once and returns the time from their start until all are ready.
    pub(crate) async fn restart_all(&mut self) -> anyhow::Result<Duration> {
        self.cluster.kill_all().await?;
        let started = Instant::now();
        self.cluster.start_all()?;
        self.cluster.wait_all_ready().await?;
        Ok(started.elapsed())
    }

    /// Stops all nodes in order, so that an instrumented program writes its counts
    /// (`scripts/profile`).
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for id in self.cluster.ids() {
            let status = self.cluster.terminate(id).await?;
            anyhow::ensure!(status.success(), "an ordered shutdown ended with {status}");
        }
        Ok(())
    }

    /// The id of a follower.
    pub(crate) async fn follower_id(&self) -> anyhow::Result<u16> {
        self.cluster.follower().await
    }

    /// Highest resident memory of each node's process so far, in bytes.
    pub(crate) fn peak_memory(&self) -> anyhow::Result<Vec<u64>> {
        self.pids()?.into_iter().map(|pid| Ok(usage::resident_bytes(pid)?.1)).collect()
    }

    /// Waits until the flushes and compactions after a bulk load are done: all nodes together then
    /// use little of one core.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let pids = self.pids()?;
        let deadline = tokio::time::Instant::now() + SETTLE_DEADLINE;
        loop {
            let before = usage::cpu_time_of_all(&pids)?;
            tokio::time::sleep(SETTLE_WINDOW).await;
            let used = usage::cpu_time_of_all(&pids)?.saturating_sub(before);
            if used < SETTLE_WINDOW / 5 {
                return Ok(());
            }
            anyhow::ensure!(
                tokio::time::Instant::now() < deadline,
                "the nodes were still busy after {SETTLE_DEADLINE:?}"
            );
        }
    }

    /// Bytes written to disk by all nodes so far.
    pub(crate) fn written_bytes(&self) -> anyhow::Result<u64> {
        self.pids()?.into_iter().map(usage::written_bytes).sum()
    }
}
