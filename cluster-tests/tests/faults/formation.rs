//! A cluster is founded once, by all listed nodes, and only if they agree on the list.

use std::time::Duration;

use headwater_cluster_tests::check::availability::RESUME_LIMIT;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::history::{Answer, SentEvent};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial, wait};

use crate::PROGRESS_LIMIT;

/// A complete cluster is founded in much less time, so an incomplete cluster had its chance.
const WATCH: Duration = Duration::from_secs(4);

async fn nobody_is_ready(cluster: &Cluster, why: &str) -> anyhow::Result<()> {
    let bases = cluster.bases();
    wait::holds_during(why, WATCH, || async {
        for (id, base) in &bases {
            anyhow::ensure!(!cluster.client().is_ready(base).await, "node {id} says it is ready");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cluster_forms_only_when_all_listed_nodes_are_up() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::new(3, Options::default())?;
    cluster.start(1)?;
    cluster.start(2)?;
    nobody_is_ready(&cluster, "two of three listed nodes do not found a cluster").await?;
    cluster.start(3)?;
    cluster.wait_all_ready().await?;
    // Peers that are not there yet are reported while founding.
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(50, PROGRESS_LIMIT).await?;
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &[]).await?;
    Ok(())
}

#[tokio::test]
async fn different_member_lists_are_refused() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::new(3, Options::default())?;
    let other_list = {
        let mut entries: Vec<String> = cluster.members().split(',').map(str::to_owned).collect();
        // The same servers, but server 2 is said to serve HTTP somewhere else.
        let (raft, _) = entries[1].split_once('/').ok_or_else(|| anyhow::anyhow!("no HTTP address"))?;
        entries[1] = format!("{raft}/127.0.0.1:1");
        entries.join(",")
    };
    cluster.start(1)?;
    cluster.start(2)?;
    cluster.start_as(3, &other_list, &[])?;
    nobody_is_ready(&cluster, "nodes with different lists do not found a cluster").await?;
    wait::until("every node says that the lists differ", PROGRESS_LIMIT, || async {
        for id in cluster.ids() {
            let said = cluster.last_log(id).matches("has another member list").count();
            // Once for each server with a different list, and nothing for the rounds in between.
            anyhow::ensure!((1..=2).contains(&said), "node {id} says it {said} times");
        }
        Ok(())
    })
    .await?;

    // Corrected and restarted, they found it.
    if cluster.exited(3)?.is_none() {
        cluster.kill(3).await?;
    } else {
        cluster.wait_exit(3, WATCH).await?;
    }
    cluster.start(3)?;
    for id in [1, 2] {
        // A node that ended because of the difference is started again, as an operator would.
        if cluster.exited(id)?.is_some() {
            cluster.wait_exit(id, WATCH).await?;
            cluster.start(id)?;
        }
    }
    cluster.wait_all_ready().await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(50, PROGRESS_LIMIT).await?;
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &["member"]).await?;
    Ok(())
}

/// An order of magnitude: rounds come several times in a second.
const FEW_LINES: usize = 3;

#[tokio::test]
async fn a_wrong_peer_address_is_logged_with_its_reason_and_not_forever() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::new(3, Options::default())?;
    let members = cluster.members();
    let entries: Vec<&str> = members.split(',').collect();
    let (own_raft, _) = entries[0].split_once('/').ok_or_else(|| anyhow::anyhow!("no HTTP address"))?;
    // An address that is listed twice is refused, but under another name it is not recognised.
    let own_raft = own_raft.trim_start_matches("1=").replace("127.0.0.1", "localhost");
    let (_, http) = entries[1].split_once('/').ok_or_else(|| anyhow::anyhow!("no HTTP address"))?;
    // For server 2 the port of server 1, for server 3 a port without a listener.
    let wrong = format!("{},2={own_raft}/{http},3=127.0.0.1:1/127.0.0.1:3", entries[0]);
    cluster.start_as(1, &wrong, &[])?;
    wait::until("both reasons in the log", PROGRESS_LIMIT, || async {
        let log = cluster.last_log(1);
        let silent = log.lines().find(|line| line.contains("WARN") && line.contains("server=3"));
        let silent = silent.ok_or_else(|| anyhow::anyhow!("nothing of server 3"))?;
        anyhow::ensure!(silent.contains("127.0.0.1:1") && silent.contains("refused"), "no reason: {silent}");
        anyhow::ensure!(log.contains("server 2 of the list answers at") && log.contains("as server 1"), "{log}");
        Ok(())
    })
    .await?;
    nobody_is_ready(&cluster, "a node alone with a wrong list").await?;
    let (client, ready) = (cluster.client().clone(), format!("{}/health/ready", cluster.base(1)));
    wait::until("the node says what it waits for", PROGRESS_LIMIT, || async {
        let said = client.get(&ready, &[]).await?.text().await?;
        anyhow::ensure!(said.starts_with("not part of a cluster yet: server 2 of the list answers"), "{said}");
        Ok(())
    })
    .await?;
    let log = cluster.last_log(1);
    for subject in ["server=3", "as server 1: correct the member list", "not part of a cluster yet"] {
        let lines = log.lines().filter(|line| line.contains(subject)).count();
        anyhow::ensure!(lines <= FEW_LINES, "{lines} lines with {subject:?}");
    }
    cluster.terminate(1).await?;
    cluster.passed()?;
    Ok(())
}

/// How a start with a list of other servers ends.
async fn refuses(cluster: &mut Cluster, id: u16, members: &str) -> anyhow::Result<()> {
    cluster.start_as(id, members, &[])?;
    let status = cluster.wait_exit(id, PROGRESS_LIMIT).await?;
    anyhow::ensure!(status.code() == Some(1), "node {id} ended with {status}");
    let log = cluster.last_log(id);
    anyhow::ensure!(log.contains("a cluster of other servers") && log.contains("correct --members"), "{log}");
    anyhow::ensure!(!log.contains("this node leads"), "it led before it ended");
    Ok(())
}

#[tokio::test]
async fn a_single_node_does_not_start_with_a_list_of_three() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::new(3, Options::default())?;
    let members = cluster.members();
    let alone = members.split(',').next().unwrap_or_default().to_owned();
    cluster.start_as(1, &alone, &[])?;
    cluster.wait_ready(1).await?;
    let base = cluster.base(1);
    let event = SentEvent {
        id: "a1111111-1111-4111-8111-111111111111".to_owned(),
        event_type: "kept".to_owned(),
        stored_data: "{}".to_owned(),
    };
    let answer = cluster.client().append(&base, "kept", -1, &[event]).await;
    anyhow::ensure!(matches!(answer, Answer::Acknowledged { .. }), "{answer:?}");
    // Nothing of the state is flushed: only the log holds the members.
    cluster.kill(1).await?;
    refuses(&mut cluster, 1, &members).await?;

    // Alone as before, it has its events.
    cluster.start_as(1, &alone, &[])?;
    cluster.wait_ready(1).await?;
    let feed = cluster.client().get_feed(&format!("{base}/streams/kept"), &[]).await?;
    anyhow::ensure!(feed["entries"].as_array().is_some_and(|entries| entries.len() == 1), "{feed}");
    // In order this time: the state is flushed.
    cluster.terminate(1).await?;
    refuses(&mut cluster, 1, &members).await?;
    cluster.passed()?;
    Ok(())
}

#[tokio::test]
async fn a_list_may_change_addresses_node_by_node_but_not_servers() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let members = cluster.members();
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(50, PROGRESS_LIMIT).await?;

    // Every node by itself, while the others serve: other names for the same places.
    let renamed = members.replace("127.0.0.1", "localhost");
    for id in cluster.ids() {
        let listen = |flag: &str, address: &str| format!("--{flag}={address}");
        let entry = members.split(',').nth(usize::from(id) - 1).unwrap_or_default();
        let (raft, http) = entry.split_once('=').and_then(|(_, places)| places.split_once('/')).unwrap_or_default();
        cluster.terminate(id).await?;
        for other in [format!("{members},4=127.0.0.1:1/127.0.0.1:2"), entry.to_owned()] {
            refuses(&mut cluster, id, &other).await?;
        }
        cluster.start_as(id, &renamed, &[&listen("raft-listen", raft), &listen("http-listen", http)])?;
        cluster.wait_ready(id).await?;
        workload.progress(50, PROGRESS_LIMIT).await?;
    }
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, &["a cluster of other servers"]).await?;
    Ok(())
}
