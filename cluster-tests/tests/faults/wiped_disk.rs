//! Nodes that lost their disk take no part until an operator lets them rejoin.

use std::time::Duration;

use headwater_cluster_tests::check::availability::RESUME_LIMIT;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::history::{Answer, SentEvent};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial, wait};
use rand::RngExt;

use crate::PROGRESS_LIMIT;

/// For how long it is watched that something does not happen: several election timeouts and
/// founding rounds.
const WATCH: Duration = Duration::from_secs(5);

/// Log lines of a node on an empty disk, and of its peers about it.
const WIPED_NODE: &[&str] = &["rejoin", "WARN*peer refuses this node's calls*this is node"];

#[tokio::test]
async fn a_wiped_follower_takes_part_again_only_with_rejoin() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(100, PROGRESS_LIMIT).await?;

    // Without consent: it refuses, and the others do not care.
    let follower = cluster.follower().await?;
    cluster.kill(follower).await?;
    cluster.wipe(follower)?;
    workload.recorder().fault(format!("disk of follower {follower} wiped"));
    cluster.start(follower)?;
    let base = cluster.base(follower);
    let client = cluster.client().clone();
    wait::holds_during("the wiped node does not take part", WATCH, || async {
        anyhow::ensure!(!client.is_ready(&base).await, "it says it is ready");
        workload.progress(1, RESUME_LIMIT).await
    })
    .await?;
    anyhow::ensure!(cluster.last_log(follower).contains("rejoin"), "the node does not say what to do");
    match cluster.exited(follower)? {
        Some(status) => {
            anyhow::ensure!(!status.success(), "a refusal must not look like success");
            cluster.wait_exit(follower, WATCH).await?;
        }
        None => {
            cluster.terminate(follower).await?;
        }
    }

    // With consent: it comes back complete, and is an ordinary node from then on.
    cluster.start_with(follower, &["--rejoin"])?;
    cluster.wait_ready(follower).await?;
    workload.progress(100, PROGRESS_LIMIT).await?;
    cluster.kill(follower).await?;
    cluster.start(follower)?;
    cluster.wait_ready(follower).await?;

    // It votes again: with one other node gone, it is half of the majority.
    let leader = cluster.leader().await?;
    cluster.kill(leader).await?;
    workload.recorder().fault(format!("kill -9 of leader {leader}, the rejoined node {follower} is needed now"));
    workload.resumed(PROGRESS_LIMIT).await?;
    cluster.start(leader)?;
    cluster.wait_ready(leader).await?;

    scenario::judge(&mut cluster, workload, RESUME_LIMIT, WIPED_NODE).await?;
    Ok(())
}

#[tokio::test]
async fn two_nodes_with_replaced_disks_rejoin_at_once() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(5, Options::default()).await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(100, PROGRESS_LIMIT).await?;
    let leader = cluster.leader().await?;
    let others: Vec<u16> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    for &id in &others[..2] {
        cluster.kill(id).await?;
        cluster.wipe(id)?;
        workload.recorder().fault(format!("disk of node {id} wiped"));
    }
    for &id in &others[..2] {
        cluster.start_with(id, &["--rejoin"])?;
    }
    cluster.wait_all_ready().await?;
    workload.progress(100, PROGRESS_LIMIT).await?;

    // Both vote: with two others gone, each of them is needed.
    for id in [leader, others[2]] {
        cluster.kill(id).await?;
        workload.recorder().fault(format!("kill -9 of node {id}"));
    }
    workload.resumed(PROGRESS_LIMIT).await?;
    for id in [leader, others[2]] {
        cluster.start(id)?;
    }
    cluster.wait_all_ready().await?;

    scenario::judge(&mut cluster, workload, RESUME_LIMIT, WIPED_NODE).await?;
    Ok(())
}

/// Snapshots are sent as slowly as can be, of a state that takes longer than [`WATCH`].
const SLOWLY: [&str; 6] =
    ["--snapshot-bytes-per-second", "65536", "--snapshot-log-bytes", "400000", "--keep-log-bytes", "50000"];

/// Events that make this state, and their size.
const EVENTS: usize = 12;
const EVENT_BYTES: usize = 100_000;

/// Entries that the cluster may write by itself.
const FEW_ENTRIES: f64 = 4.0;

#[tokio::test]
async fn a_node_waiting_to_rejoin_adds_no_entries_to_the_log() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let options = Options { extra: SLOWLY.map(str::to_owned).to_vec(), ..Options::default() };
    let mut cluster = Cluster::started(3, options).await?;
    let client = cluster.client().clone();
    let leader = cluster.leader().await?;
    let leader_base = cluster.base(leader);
    for _ in 0..EVENTS {
        let answer = client.append(&leader_base, "large", -2, &[large_event()]).await;
        anyhow::ensure!(matches!(answer, Answer::Acknowledged { .. }), "not acknowledged: {answer:?}");
    }
    wait::until("the leader has purged its log", PROGRESS_LIMIT, || async {
        anyhow::ensure!(cluster.last_log(leader).contains("purging the log"), "not yet");
        Ok(())
    })
    .await?;

    let follower = cluster.follower().await?;
    cluster.kill(follower).await?;
    cluster.wipe(follower)?;
    // It is asked for its metrics before it is ready.
    cluster.start_with(follower, &["--rejoin", "--start-wait-ms=0"])?;
    wait::until("the wiped node is sent a snapshot", PROGRESS_LIMIT, || async {
        anyhow::ensure!(cluster.last_log(follower).contains("receiving a snapshot"), "not yet");
        Ok(())
    })
    .await?;
    let before = client.metric(&leader_base, "headwater_committed_entries").await?;
    tokio::time::sleep(WATCH).await;
    let after = client.metric(&leader_base, "headwater_committed_entries").await?;
    let installed = client.metric(&cluster.base(follower), "headwater_snapshots_installed_total").await?;
    anyhow::ensure!(installed < 1.0, "the snapshot was sent too fast for this test");
    anyhow::ensure!(after - before <= FEW_ENTRIES, "{} entries in {WATCH:?}", after - before);

    cluster.wait_ready(follower).await?;
    cluster.passed()?;
    Ok(())
}

/// An event that compression does not make smaller.
fn large_event() -> SentEvent {
    let mut random = rand::rng();
    let payload: String = (0..EVENT_BYTES).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
    SentEvent {
        id: uuid::Uuid::new_v4().to_string(),
        event_type: "large".to_owned(),
        stored_data: format!("{{\n  \"payload\": \"{payload}\"\n}}"),
    }
}

#[tokio::test]
async fn two_wiped_nodes_of_three_do_not_found_a_new_cluster() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(100, PROGRESS_LIMIT).await?;
    workload.stop().await?;
    let survivor = 3;
    let identity = std::fs::read(cluster.data_dir(survivor).join("identity"))?;

    for consent in [&[][..], &["--rejoin"][..]] {
        cluster.kill_all().await?;
        for id in [1, 2] {
            cluster.wipe(id)?;
            cluster.start_with(id, consent)?;
        }
        cluster.start(survivor)?;

        let bases = cluster.bases();
        let client = cluster.client().clone();
        let event = SentEvent {
            id: uuid::Uuid::new_v4().to_string(),
            event_type: "probe".to_owned(),
            stored_data: "{}".to_owned(),
        };
        let events = [event];
        wait::holds_during("no node acknowledges a write", WATCH, || async {
            let answers = bases.iter().map(|(_, base)| client.append(base, "probe", -2, &events));
            for answer in futures::future::join_all(answers).await {
                anyhow::ensure!(!matches!(answer, Answer::Acknowledged { .. }), "acknowledged: {answer:?}");
            }
            for (id, base) in bases.iter().filter(|(id, _)| *id != survivor) {
                anyhow::ensure!(!client.is_ready(base).await, "wiped node {id} says it is ready");
            }
            Ok(())
        })
        .await?;
        anyhow::ensure!(
            std::fs::read(cluster.data_dir(survivor).join("identity"))? == identity,
            "the survivor was made part of another cluster"
        );
        // A wiped node may have ended by itself; `kill_all` only needs those that run.
        for id in [1, 2] {
            if cluster.exited(id)?.is_some() {
                cluster.wait_exit(id, WATCH).await?;
            }
        }
    }
    cluster.passed()?;
    Ok(())
}
