//! All disks are lost, and the cluster comes back from a backup that was taken under load.

use std::path::Path;

use anyhow::Context;
use headwater_cluster_tests::check::{self, stored};
use headwater_cluster_tests::client::ADMIN;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::feed::{self, NodeFeed};
use headwater_cluster_tests::history::{Answer, History, SentEvent};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{serial, wait};

use crate::PROGRESS_LIMIT;
use crate::program::{backup, run, said};

/// The server that is restored.
const RESTORED: u16 = 1;

/// Events per page when a whole log is read.
const PAGE: usize = 4096;

#[tokio::test]
async fn a_cluster_that_lost_all_disks_comes_back_from_a_backup_taken_under_load() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(300, PROGRESS_LIMIT).await?;
    let source = cluster.base(cluster.follower().await?);
    let (first, second) = (cluster.directory().join("first"), cluster.directory().join("second"));
    backup(&source, &first, None).await?;
    let acknowledged_before = workload.recorder().snapshot();
    workload.progress(200, PROGRESS_LIMIT).await?;
    backup(&source, &second, Some(&first)).await?;
    workload.progress(50, PROGRESS_LIMIT).await?;
    let history = workload.stop().await?;
    // The first backup holds what was acknowledged before it began; what it has more was under way.
    let (end_of_first, end) = (next_position(&first)?, next_position(&second)?);
    anyhow::ensure!(end_of_first < end && acknowledged_before.highest_position().is_some(), "nothing was written");

    cluster.kill_all().await?;
    for id in cluster.ids() {
        cluster.wipe(id)?;
    }
    std::fs::remove_dir_all(&first)?;
    let data_dir = cluster.data_dir(RESTORED).display().to_string();
    let server = RESTORED.to_string();
    said(
        run(&["restore", "--from", &second.display().to_string(), "--data-dir", &data_dir, "--server-id", &server])
            .await?,
    )?;

    cluster.start(RESTORED)?;
    cluster.wait_ready(RESTORED).await?;
    let log = cluster.last_log(RESTORED);
    anyhow::ensure!(!log.contains("founded the cluster"), "the restored node founded another cluster");
    cluster.start_all()?;
    cluster.wait_all_ready().await?;
    let feeds = feed::read_all(cluster.client(), &cluster.bases(), PAGE, PROGRESS_LIMIT).await?;
    check::none(&stored::check(&before(&history, end), &feeds))?;
    anyhow::ensure!(feeds.iter().all(|feed| feed.events.len() as u64 >= end), "events of the backup are missing");
    nothing_was_made_up(&history, &feeds[0], end)?;

    // Clients go on through every node; and the restored disk is needed no more.
    goes_on(&cluster, &cluster.ids()).await?;
    wait::until("all servers vote", PROGRESS_LIMIT, || async {
        let promoted = cluster.last_log(RESTORED).matches("has caught up and votes").count();
        anyhow::ensure!(promoted >= 2, "{promoted} of 2");
        Ok(())
    })
    .await?;
    cluster.kill(RESTORED).await?;
    goes_on(&cluster, &[2, 3]).await?;

    // Its mark is gone, and so it comes back as any other node.
    cluster.start(RESTORED)?;
    cluster.wait_ready(RESTORED).await?;
    goes_on(&cluster, &[RESTORED]).await?;
    let bases = cluster.bases();
    let compared = run(&["verify", &bases[0].1, "--against", &bases[1].1, "--user", ADMIN.0]).await?;
    anyhow::ensure!(said(compared)?.contains(": 0 positions differ"), "two nodes differ");
    cluster.passed()?;
    Ok(())
}

/// The end of a backup, by its manifest.
fn next_position(backup: &Path) -> anyhow::Result<u64> {
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(backup.join("backup.json"))?)?;
    manifest["backup"]["nextPosition"].as_u64().context("no nextPosition")
}

/// The acknowledgements of events below a position.
fn before(history: &History, end: u64) -> History {
    let mut history = history.clone();
    for write in &mut history.writes {
        write.attempts.retain(|attempt| match attempt.answer {
            Answer::Acknowledged { position, .. } => position < end,
            _ => true,
        });
    }
    history
}

/// Every event of the load's streams was sent, and none of them lies at or after the end of the
/// backup.
fn nothing_was_made_up(history: &History, feed: &NodeFeed, end: u64) -> anyhow::Result<()> {
    let sent: std::collections::HashSet<&str> =
        history.writes.iter().flat_map(|write| &write.events).map(|event| event.id.as_str()).collect();
    for (position, event) in feed.events.iter().enumerate() {
        let is_of_load = event.event_type.starts_with("load-");
        let (id, stream) = (&event.id, &event.stream);
        anyhow::ensure!(!is_of_load || sent.contains(id.as_str()), "nobody sent event {id} of {stream}");
        anyhow::ensure!(!is_of_load || (position as u64) < end, "event {id} of {stream} is not of the backup");
    }
    Ok(())
}

/// A write through each of these nodes is acknowledged, and read on each of them.
async fn goes_on(cluster: &Cluster, nodes: &[u16]) -> anyhow::Result<()> {
    for id in nodes {
        let base = cluster.base(*id);
        let event = SentEvent {
            id: uuid::Uuid::new_v4().to_string(),
            event_type: "after".to_owned(),
            stored_data: "{}".to_owned(),
        };
        let events = [event];
        wait::until("a write after the restore", PROGRESS_LIMIT, || async {
            let answer = cluster.client().append(&base, "after-the-restore", -2, &events).await;
            anyhow::ensure!(matches!(answer, Answer::Acknowledged { .. }), "node {id}: {answer:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
