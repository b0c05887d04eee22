//! A cluster of the first release is upgraded node by node while it runs, under load.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::client::ADMIN;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::process::headwater_binary;
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{release, scenario, serial, wait};
use serde_json::Value;

use crate::PROGRESS_LIMIT;
use crate::program::{run, said};

/// Kills of a node while another one is being replaced leave no majority until it is back.
const RESUME_LIMIT: Duration = Duration::from_secs(20);

/// Log lines of nodes that meet others which start, and of a node that is refused.
const PROVOKED: &[&str] = &[
    "WARN*peer refuses this node's calls",
    "WARN*not part of a cluster yet*cluster version",
    "ERROR*was written in format",
];

/// The two programs, and the load.
struct Upgrade {
    cluster: Cluster,
    workload: Workload,
    old: PathBuf,
    new: PathBuf,
}

impl Upgrade {
    /// Three nodes of the first release under load; `None` where it cannot be built.
    async fn begin() -> anyhow::Result<Option<Self>> {
        let Some(old) = release::first()?.program()? else { return Ok(None) };
        // Small snapshots: the versions also send them to each other.
        let extra = ["--snapshot-log-bytes", "300000", "--keep-log-bytes", "100000"];
        let options =
            Options { extra: extra.map(str::to_owned).to_vec(), binary: Some(old.clone()), ..Options::default() };
        let cluster = Cluster::started(3, options).await?;
        let workload = Workload::start(&cluster, Rate { payload_bytes: 500, ..Rate::default() })?;
        workload.progress(100, PROGRESS_LIMIT).await?;
        Ok(Some(Self { cluster, workload, old, new: headwater_binary()? }))
    }

    /// Stops a node in order and starts it with another program.
    async fn exchange(&mut self, id: u16, program: &Path) -> anyhow::Result<()> {
        let status = self.cluster.terminate(id).await?;
        anyhow::ensure!(status.success(), "node {id} ended with {status}");
        self.workload.recorder().fault(format!("node {id} stopped, and started as {}", program.display()));
        self.cluster.set_binary(id, program);
        self.cluster.start(id)?;
        self.cluster.wait_ready(id).await?;
        self.workload.progress(50, PROGRESS_LIMIT).await
    }

    /// `kill -9` of a node, which comes back with the program it had.
    async fn kill(&mut self, id: u16) -> anyhow::Result<()> {
        self.cluster.kill(id).await?;
        self.workload.recorder().fault(format!("kill -9 of node {id}"));
        self.workload.resumed(PROGRESS_LIMIT).await?;
        self.cluster.start(id)?;
        self.cluster.wait_ready(id).await?;
        self.workload.progress(50, PROGRESS_LIMIT).await
    }

    /// Makes a node lead: a leader of the new version hands over to it, and one of the first
    /// release is killed until another one leads.
    async fn let_lead(&mut self, wanted: u16) -> anyhow::Result<()> {
        for _ in 0..MOST_ATTEMPTS {
            let leader = self.cluster.leader().await?;
            if leader == wanted {
                return self.workload.progress(50, PROGRESS_LIMIT).await;
            }
            let (url, to) = (self.cluster.base(leader), wanted.to_string());
            let asked = run(&["cluster", "transfer", &to, "--url", &url, "--user", ADMIN.0, "--retry-s", "0"]).await?;
            if String::from_utf8_lossy(&asked.stderr).contains("404") {
                self.kill(leader).await?;
            }
        }
        anyhow::bail!("node {wanted} was not made the leader")
    }

    /// What a node of the new version says of the cluster.
    async fn status(&self, asked: u16) -> anyhow::Result<Value> {
        let url = self.cluster.base(asked);
        let arguments = ["cluster", "status", "--json", "--url", &url, "--user", ADMIN.0, "--retry-s", "0"];
        let output = run(&arguments).await?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
    }

    /// The versions of the programs of the members, as a node of the new version sees them; `null`
    /// for the first release, which does not tell.
    async fn programs(&self, asked: u16) -> anyhow::Result<Vec<Value>> {
        let status = self.status(asked).await?;
        Ok(status["members"].as_array().context("no members")?.iter().map(|member| member["version"].clone()).collect())
    }

    /// Waits until a node says that the first version is in force, and what the second waits for.
    async fn gate_is_closed(&self, asked: u16, waits_for: &[&str]) -> anyhow::Result<()> {
        wait::until("the second version is gated", PROGRESS_LIMIT, || async {
            let status = self.status(asked).await?;
            anyhow::ensure!(status["clusterVersion"] == 1, "{status}");
            anyhow::ensure!(status["gated"][0]["version"] == 2, "{status}");
            anyhow::ensure!(status["gated"][0]["waitsFor"] == serde_json::json!(waits_for), "{status}");
            Ok(())
        })
        .await
    }

    /// Waits until every node says that the second version is in force.
    async fn gate_is_open(&self) -> anyhow::Result<()> {
        for id in self.cluster.ids() {
            wait::until("the second version is in force", PROGRESS_LIMIT, || async {
                let status = self.status(id).await?;
                anyhow::ensure!(status["clusterVersion"] == 2, "{status}");
                anyhow::ensure!(status["gated"] == serde_json::json!([]), "{status}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// A program of the first release refuses the data of a node, and changes nothing.
    async fn old_program_refuses(&mut self, id: u16) -> anyhow::Result<()> {
        let status = self.cluster.terminate(id).await?;
        anyhow::ensure!(status.success(), "node {id} ended with {status}");
        self.workload.recorder().fault(format!("node {id} stopped; the old program refuses its data"));
        self.cluster.set_binary(id, &self.old);
        self.cluster.start(id)?;
        let status = self.cluster.wait_exit(id, PROGRESS_LIMIT).await?;
        let log = self.cluster.last_log(id);
        anyhow::ensure!(status.code() == Some(1), "it ended with {status}: {log}");
        anyhow::ensure!(log.contains("was written in format [2]"), "{log}");
        anyhow::ensure!(log.contains("start the version of Headwater that wrote it"), "{log}");
        self.cluster.set_binary(id, &self.new);
        self.cluster.start(id)?;
        self.cluster.wait_ready(id).await?;
        self.workload.progress(50, PROGRESS_LIMIT).await
    }

    /// An empty disk is not taken in while a program of the first release runs on it.
    async fn old_program_is_not_taken_in(&mut self, id: u16) -> anyhow::Result<()> {
        self.cluster.kill(id).await?;
        self.workload.recorder().fault(format!("disk of node {id} lost"));
        self.cluster.wipe(id)?;
        self.cluster.set_binary(id, &self.old);
        self.cluster.start_with(id, &["--rejoin"])?;
        wait::until("the old program hears why it is refused", PROGRESS_LIMIT, || async {
            let log = self.cluster.last_log(id);
            anyhow::ensure!(log.contains("knows no cluster version beyond 1, and version 2 is in force"), "{log}");
            Ok(())
        })
        .await?;
        self.cluster.kill(id).await?;
        self.cluster.set_binary(id, &self.new);
        self.cluster.start_with(id, &["--rejoin"])?;
        self.cluster.wait_ready(id).await
    }
}

/// A hand-over is refused while a voter lags; each attempt takes a while.
const MOST_ATTEMPTS: u32 = 50;

#[tokio::test]
async fn a_rolling_upgrade_from_the_first_release_and_back_loses_nothing() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let Some(mut upgrade) = Upgrade::begin().await? else { return Ok(()) };
    let (old, new) = (upgrade.old.clone(), upgrade.new.clone());

    // One of three, then two of three, with nodes of both versions killed and leading.
    upgrade.exchange(1, &new).await?;
    upgrade.gate_is_closed(1, &["server 2 knows none beyond 1", "server 3 knows none beyond 1"]).await?;
    let programs = upgrade.programs(1).await?;
    anyhow::ensure!(programs[0].is_string() && programs[1].is_null() && programs[2].is_null(), "{programs:?}");
    upgrade.kill(3).await?;
    upgrade.kill(1).await?;
    upgrade.let_lead(1).await?;
    upgrade.let_lead(2).await?;
    upgrade.exchange(2, &new).await?;
    upgrade.gate_is_closed(2, &["server 3 knows none beyond 1"]).await?;
    // What the version adds is refused, with the name of the node that is too old. (A leader of the
    // first release knows nothing of it.)
    upgrade.let_lead(2).await?;
    let refused = run(&["cluster", "remove", "2", "--url", &upgrade.cluster.base(1), "--user", ADMIN.0]).await?;
    let said_no = String::from_utf8_lossy(&refused.stderr).into_owned();
    anyhow::ensure!(!refused.status.success() && said_no.contains("servers 3 have not answered"), "{said_no}");

    // Back, under a leader of each version, and forward again.
    upgrade.let_lead(3).await?;
    upgrade.exchange(1, &old).await?;
    upgrade.gate_is_closed(2, &["server 1 knows none beyond 1", "server 3 knows none beyond 1"]).await?;
    upgrade.let_lead(2).await?;
    upgrade.exchange(1, &new).await?;
    upgrade.kill(2).await?;
    // A member that is away may come back with its old program.
    upgrade.cluster.kill(3).await?;
    upgrade.workload.recorder().fault("kill -9 of node 3".to_owned());
    upgrade.gate_is_closed(1, &["server 3 does not answer"]).await?;
    upgrade.cluster.set_binary(3, &new);
    upgrade.cluster.start(3)?;
    upgrade.cluster.wait_ready(3).await?;

    upgrade.gate_is_open().await?;
    let programs = upgrade.programs(3).await?;
    anyhow::ensure!(programs.iter().all(Value::is_string), "{programs:?}");
    upgrade.kill(1).await?;
    upgrade.old_program_refuses(2).await?;
    upgrade.old_program_is_not_taken_in(3).await?;
    upgrade.gate_is_open().await?;
    // What the version adds is there.
    let url = upgrade.cluster.base(1);
    said(run(&["cluster", "demote", "3", "--url", &url, "--user", ADMIN.0]).await?)?;
    said(run(&["cluster", "promote", "3", "--url", &url, "--user", ADMIN.0]).await?)?;

    scenario::judge(&mut upgrade.cluster, upgrade.workload, RESUME_LIMIT, PROVOKED).await?;
    Ok(())
}
