//! All disks are lost, and the same backup is restored on every server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_cluster_tests::check::availability::{self, RESUME_LIMIT};
use headwater_cluster_tests::check::{self, logs, numbering, once, same_everywhere, stored, versions};
use headwater_cluster_tests::client::ADMIN;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::feed::{self, NodeFeed};
use headwater_cluster_tests::history::{Answer, SentEvent};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{serial, wait};

use crate::PROGRESS_LIMIT;
use crate::program::{backup, run, said};

/// Events per page when a whole log is read.
const PAGE: usize = 4096;

/// The stream of the events that were there before the disks were lost.
const BEFORE: &str = "before";

/// A cluster begins in much less time, so one that does not begin had its chance.
const WATCH: Duration = Duration::from_secs(4);

/// Refused writes of servers that wait for each other, and of a follower whose leader was killed.
const EXPECTED: &[&str] = &["not part of a cluster yet", "a listed server does not answer"];

/// Events written between two backups.
const EVENTS: usize = 40;

/// A cluster that has lost all its disks, with as many backups, each of them with more events.
async fn lost(backups: usize) -> anyhow::Result<(Cluster, Vec<PathBuf>, Vec<SentEvent>)> {
    let options = Options { extra: vec!["--start-wait-ms=0".into()], ..Options::default() };
    let mut cluster = Cluster::started(3, options).await?;
    let (mut taken, mut sent) = (Vec::new(), Vec::new());
    for number in 0..backups {
        for id in (0..EVENTS).map(|index| cluster.ids()[index % 3]) {
            sent.push(append(&cluster, id, BEFORE).await?);
        }
        let path = cluster.directory().join(format!("backup-{number}"));
        backup(&cluster.base(cluster.follower().await?), &path, None).await?;
        taken.push(path);
    }
    cluster.kill_all().await?;
    for id in cluster.ids() {
        cluster.wipe(id)?;
    }
    Ok((cluster, taken, sent))
}

/// Writes one event through a node.
async fn append(cluster: &Cluster, id: u16, stream: &str) -> anyhow::Result<SentEvent> {
    let event =
        SentEvent { id: uuid::Uuid::new_v4().to_string(), event_type: "kept".to_owned(), stored_data: "{}".to_owned() };
    let answer = cluster.client().append(&cluster.base(id), stream, -2, std::slice::from_ref(&event)).await;
    anyhow::ensure!(matches!(answer, Answer::Acknowledged { .. }), "node {id}: {answer:?}");
    Ok(event)
}

/// Every node has these events of the backup, in their order.
fn has_all(feeds: &[NodeFeed], sent: &[SentEvent]) -> anyhow::Result<()> {
    for feed in feeds {
        let ids: Vec<&str> =
            feed.events.iter().filter(|event| event.stream == BEFORE).map(|event| event.id.as_str()).collect();
        anyhow::ensure!(ids.iter().eq(sent.iter().map(|event| &event.id)), "node {} has other events", feed.node);
    }
    Ok(())
}

/// Restores a backup for one server of the list; returns what the program says.
async fn restore(cluster: &Cluster, id: u16, from: &Path, further: &[&str]) -> anyhow::Result<String> {
    let (from, data_dir) = (from.display().to_string(), cluster.data_dir(id).display().to_string());
    let (server, members) = (id.to_string(), cluster.members());
    let options = ["restore", "--from", &from, "--data-dir", &data_dir, "--server-id", &server, "--members", &members];
    said(run(&[&options[..], further].concat()).await?)
}

/// The line by which people recognise one backup.
fn mark(said: &str) -> Option<&str> {
    said.lines().find(|line| line.contains("every one of them says"))
}

/// No server is ready, and each of these says why.
async fn nobody_begins(cluster: &Cluster, reason: &str, tellers: &[u16]) -> anyhow::Result<()> {
    let bases = cluster.bases();
    wait::until("the reason in the log", PROGRESS_LIMIT, || async {
        for id in tellers {
            anyhow::ensure!(cluster.last_log(*id).contains(reason), "node {id} does not say it");
        }
        Ok(())
    })
    .await?;
    wait::holds_during("no cluster begins", WATCH, || async {
        for (id, base) in &bases {
            anyhow::ensure!(!cluster.client().is_ready(base).await, "node {id} says it is ready");
            let read = cluster.client().get_feed(&format!("{base}/streams/$all"), &[]).await;
            anyhow::ensure!(read.is_err(), "node {id} serves reads");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_same_backup_on_every_server_is_one_cluster_that_loses_nothing() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let (mut cluster, backups, sent) = lost(1).await?;
    let mut marks = Vec::new();
    for id in cluster.ids() {
        let said = restore(&cluster, id, &backups[0], &[]).await?;
        marks.extend(mark(&said).map(str::to_owned));
    }
    anyhow::ensure!(marks.len() == 3 && marks.iter().all(|mark| *mark == marks[0]), "{marks:?}");

    // Two of three do not begin, whichever they are; and what the third one lacks is said.
    cluster.start(1)?;
    cluster.start(2)?;
    nobody_begins(
        &cluster,
        "every listed server must answer once to begin the restored cluster; silent: server 3",
        &[1, 2],
    )
    .await?;
    cluster.start(3)?;
    cluster.wait_all_ready().await?;
    let feeds = feed::read_all(cluster.client(), &cluster.bases(), PAGE, PROGRESS_LIMIT).await?;
    has_all(&feeds, &sent)?;
    for id in cluster.ids() {
        let log = cluster.last_log(id);
        anyhow::ensure!(!log.contains("founded the cluster"), "node {id} founded another cluster");
        anyhow::ensure!(!log.contains("receiving a snapshot"), "node {id} received what it had");
    }

    // An ordinary cluster from here on: writes survive a kill of each in turn.
    let workload = Workload::start(&cluster, Rate::default())?;
    for id in cluster.ids() {
        workload.progress(50, PROGRESS_LIMIT).await?;
        cluster.kill(id).await?;
        workload.progress(50, PROGRESS_LIMIT).await?;
        cluster.start(id)?;
        cluster.wait_ready(id).await?;
    }
    let bases = cluster.bases();
    for (_, other) in &bases[1..] {
        let compared = run(&["verify", &bases[0].1, "--against", other, "--user", ADMIN.0]).await?;
        anyhow::ensure!(said(compared)?.contains(": 0 positions differ"), "two nodes differ");
    }
    let history = workload.stop().await?;
    let feeds = feed::read_all(cluster.client(), &bases, PAGE, PROGRESS_LIMIT).await?;
    has_all(&feeds, &sent)?;
    let rules = [stored::check, once::check, numbering::check, same_everywhere::check, versions::check];
    check::none(&rules.iter().flat_map(|rule| rule(&history, &feeds)).collect::<Vec<_>>())?;
    check::none(&availability::check(&history, RESUME_LIMIT))?;
    check::none(&logs::check(&cluster.logs()?, EXPECTED)?)?;
    cluster.passed()?;
    Ok(())
}

#[tokio::test]
async fn different_backups_different_ends_and_different_lists_make_no_cluster() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let (mut cluster, backups, _) = lost(2).await?;
    for (id, from) in [(1, &backups[0]), (2, &backups[0]), (3, &backups[1])] {
        restore(&cluster, id, from, &[]).await?;
    }
    cluster.start_all()?;
    let another = "from another backup or up to another end";
    nobody_begins(&cluster, another, &[1, 2, 3]).await?;

    // The same backup, up to another end.
    cluster.kill(3).await?;
    cluster.wipe(3)?;
    restore(&cluster, 3, &backups[0], &["--until-position", "10"]).await?;
    cluster.start(3)?;
    nobody_begins(&cluster, another, &[1, 2, 3]).await?;

    // The right one at last, started with another list: it does not start. Then with the right one.
    cluster.kill(3).await?;
    cluster.wipe(3)?;
    restore(&cluster, 3, &backups[0], &[]).await?;
    let other_list = cluster.members().replace("1=127.0.0.1", "1=localhost");
    cluster.start_as(3, &other_list, &[])?;
    let status = cluster.wait_exit(3, PROGRESS_LIMIT).await?;
    anyhow::ensure!(status.code() == Some(1), "node 3 ended with {status}");
    anyhow::ensure!(cluster.last_log(3).contains("was restored for the list"), "{}", cluster.last_log(3));
    cluster.start(3)?;
    cluster.wait_all_ready().await?;

    // One of them loses its disk. The same backup does not make it a member again: under a new id
    // it has made no promise, and the others go on without it.
    cluster.kill(2).await?;
    cluster.wipe(2)?;
    restore(&cluster, 2, &backups[0], &[]).await?;
    cluster.start(2)?;
    wait::until("node 2 says what to do", PROGRESS_LIMIT, || async {
        let log = cluster.last_log(2);
        anyhow::ensure!(log.contains("empty this data directory and start this server with --rejoin"), "{log}");
        Ok(())
    })
    .await?;
    cluster.kill(2).await?;
    cluster.wipe(2)?;
    cluster.start_with(2, &["--rejoin"])?;
    cluster.wait_all_ready().await?;
    cluster.passed()?;
    Ok(())
}
