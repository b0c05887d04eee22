//! A cluster grows and shrinks while it runs, under load, and loses nodes in between.

use std::time::{Duration, Instant};

use anyhow::Context;
use headwater_cluster_tests::client::ADMIN;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{scenario, serial, wait};
use reqwest::Method;
use serde_json::Value;

use crate::PROGRESS_LIMIT;
use crate::program::{run, said};

/// How long a change of members may take to be what was asked for, through killed nodes.
pub(crate) const CHANGE_LIMIT: Duration = Duration::from_secs(60);

/// Nodes are killed while two voters need each other, so writes wait for their restarts.
pub(crate) const RESUME_LIMIT: Duration = Duration::from_secs(15);

/// For how long it is watched that something does not happen.
const WATCH: Duration = Duration::from_secs(3);

/// How long a write waits for a leader (`--leader-wait-ms`).
const LEADER_WAIT: Duration = Duration::from_secs(3);

/// Of an event that no node takes.
const EVENT_ID: &str = "e1111111-1111-4111-8111-111111111111";

/// Log lines of changes that meet killed nodes, and of removed nodes.
pub(crate) const PROVOKED: &[&str] = &[
    "WARN*a change of members was not committed",
    "WARN*a change of members cannot be completed yet",
    "WARN*the leader did not answer a change of members",
    "WARN*this node was removed from the cluster",
    "WARN*peer refuses this node's calls",
];

/// A server in the list of members.
pub(crate) fn entry(cluster: &Cluster, id: u16) -> String {
    cluster.members().split(',').nth(usize::from(id) - 1).unwrap_or_default().to_owned()
}

/// Starts a server that names only itself, as it was started first.
pub(crate) fn start(cluster: &mut Cluster, id: u16) -> anyhow::Result<()> {
    let list = entry(cluster, id);
    cluster.start_as(id, &list, if id == 1 { &[] } else { &["--join"] })
}

/// Runs `headwater cluster`, asking one of the nodes.
pub(crate) async fn command(cluster: &Cluster, asked: u16, words: &[&str]) -> anyhow::Result<String> {
    let url = cluster.base(asked);
    let authority = cluster.authority_file().map(|file| format!("--ca-file={}", file.display()));
    let authority: Vec<&str> = authority.iter().map(String::as_str).collect();
    let arguments = [&["cluster"], words, &["--url", &url, "--user", ADMIN.0, "--retry-s", "5"], &authority].concat();
    said(run(&arguments).await?)
}

/// Roles of the members by their ids, as one of the nodes sees them: `1 leader, 2 voter`.
async fn roles(cluster: &Cluster, asked: u16) -> anyhow::Result<String> {
    let url = cluster.base(asked);
    let arguments = ["cluster", "status", "--json", "--url", &url, "--user", ADMIN.0, "--retry-s", "0"];
    let output = run(&arguments).await?;
    let status: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    let members = status["members"].as_array().context("no members")?.iter();
    let role = |member: &Value| format!("{} {}", member["server"], member["role"].as_str().unwrap_or_default());
    Ok(members.map(role).collect::<Vec<_>>().join(", "))
}

/// Ids of voters, without saying which of them leads.
async fn voters(cluster: &Cluster, asked: u16) -> anyhow::Result<Vec<u16>> {
    let roles = roles(cluster, asked).await?;
    let voter = |role: &str| {
        let (id, role) = role.split_once(' ')?;
        matches!(role, "voter" | "leader").then(|| id.parse().ok())?
    };
    Ok(roles.split(", ").filter_map(voter).collect())
}

/// Asks for a change until these are the voters: a node that is asked may be killed at any moment,
/// and then nobody knows what became of it.
async fn change_until(cluster: &Cluster, asked: u16, words: &[&str], expected: &[u16]) -> anyhow::Result<()> {
    wait::until(&format!("{words:?}"), CHANGE_LIMIT, || async {
        if voters(cluster, asked).await? == expected {
            return Ok(());
        }
        let made = command(cluster, asked, words).await;
        anyhow::ensure!(voters(cluster, asked).await? == expected, "not yet: {made:?}");
        Ok(())
    })
    .await
}

/// A removed node answers at once that it does nothing, and closes the connections over which it is
/// asked: a balancer has taken it for ready until now, and may hold some.
async fn sends_clients_away(cluster: &Cluster, id: u16) -> anyhow::Result<()> {
    let asked = Instant::now();
    let url = format!("{}/streams/elsewhere", cluster.base(id));
    let headers = [("Content-Type", "application/json"), ("ES-EventType", "t"), ("ES-EventId", EVENT_ID)];
    let answer = cluster.client().request(Method::POST, &url, &headers, "{}".into()).await?;
    let connection = answer.headers().get("connection").and_then(|value| value.to_str().ok());
    anyhow::ensure!(answer.status() == 503 && connection == Some("close"), "{answer:?}");
    anyhow::ensure!(asked.elapsed() < LEADER_WAIT, "it waited {:?} for a leader", asked.elapsed());
    let refused = command(cluster, id, &["remove", "1"]).await.err().context("a removed node changes members")?;
    anyhow::ensure!(refused.to_string().contains("was removed from the cluster: ask a member"), "{refused}");
    Ok(())
}

/// A cluster of one, and the load of as many writers as five nodes have.
async fn one_of_five() -> anyhow::Result<(Cluster, Workload)> {
    // Small snapshots: a new node gets one instead of the log.
    let extra = ["--snapshot-log-bytes", "300000", "--keep-log-bytes", "100000"];
    let mut cluster = Cluster::new(5, Options { extra: extra.map(str::to_owned).to_vec(), ..Options::default() })?;
    start(&mut cluster, 1)?;
    cluster.wait_ready(1).await?;
    let workload = Workload::start(&cluster, Rate { writers_per_node: 2, payload_bytes: 500, ..Rate::default() })?;
    workload.progress(100, PROGRESS_LIMIT).await?;
    Ok((cluster, workload))
}

/// Kills a node and starts it again with the list that it always had.
async fn kill(cluster: &mut Cluster, workload: &Workload, id: u16) -> anyhow::Result<()> {
    cluster.kill(id).await?;
    workload.recorder().fault(format!("kill -9 of node {id}"));
    start(cluster, id)
}

#[tokio::test]
async fn growing_to_five_and_shrinking_to_three_under_load_loses_nothing() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let (mut cluster, workload) = one_of_five().await?;

    // From one to three. The new node dies while it catches up, and then the only voter does.
    start(&mut cluster, 2)?;
    let second = entry(&cluster, 2);
    wait::until("server 2 is added", CHANGE_LIMIT, || async {
        command(&cluster, 1, &["add", &second, "--detach"]).await.map(drop)
    })
    .await?;
    kill(&mut cluster, &workload, 2).await?;
    kill(&mut cluster, &workload, 1).await?;
    cluster.wait_ready(1).await?;
    wait::until("server 2 votes", CHANGE_LIMIT, || async {
        anyhow::ensure!(voters(&cluster, 1).await? == [1, 2], "not yet");
        Ok(())
    })
    .await?;
    cluster.wait_ready(2).await?;
    start(&mut cluster, 3)?;
    change_until(&cluster, 2, &["add", &entry(&cluster, 3)], &[1, 2, 3]).await?;
    cluster.wait_ready(3).await?;
    workload.progress(50, PROGRESS_LIMIT).await?;

    // To five, while the leader dies.
    for id in [4, 5] {
        start(&mut cluster, id)?;
        let (added, asked) = (entry(&cluster, id), cluster.follower().await?);
        let leader = cluster.leader().await?;
        let detached = command(&cluster, asked, &["add", &added, "--detach"]).await;
        kill(&mut cluster, &workload, leader).await?;
        eprintln!("the leader {leader} was killed after: {detached:?}");
        let all: Vec<u16> = (1..=id).collect();
        change_until(&cluster, asked, &["add", &added, "--wait-s", "20"], &all).await?;
        cluster.wait_ready(leader).await?;
        cluster.wait_ready(id).await?;
    }
    // Two of five are dispensable, whichever they are.
    for id in [2, 5] {
        cluster.kill(id).await?;
        workload.recorder().fault(format!("kill -9 of node {id}"));
    }
    workload.resumed(PROGRESS_LIMIT).await?;
    for id in [2, 5] {
        start(&mut cluster, id)?;
        cluster.wait_ready(id).await?;
    }

    // Back to three: a follower and the leader go, while another one dies.
    let leads = cluster.leader().await?;
    if leads != 4 {
        command(&cluster, 1, &["transfer", "4"]).await?;
    }
    change_until(&cluster, 2, &["remove", "5"], &[1, 2, 3, 4]).await?;
    kill(&mut cluster, &workload, 3).await?;
    change_until(&cluster, 2, &["remove", "4"], &[1, 2, 3]).await?;
    cluster.wait_ready(3).await?;
    for id in [5, 4] {
        wait::until("the removed node says so", PROGRESS_LIMIT, || async {
            anyhow::ensure!(cluster.last_log(id).contains("was removed from the cluster"), "not yet");
            Ok(())
        })
        .await?;
    }
    sends_clients_away(&cluster, 5).await?;
    // They disturb nobody, not even when they are started again.
    cluster.kill(5).await?;
    start(&mut cluster, 5)?;
    let leader = cluster.leader_of(&[1, 2, 3]).await?;
    wait::holds_during("the leader goes on", WATCH, || async {
        anyhow::ensure!(cluster.leader_of(&[1, 2, 3]).await? == leader, "another node leads");
        Ok(())
    })
    .await?;
    cluster.retire_last().await?;
    cluster.retire_last().await?;

    scenario::judge(&mut cluster, workload, RESUME_LIMIT, PROVOKED).await?;
    Ok(())
}

#[tokio::test]
async fn a_lost_server_is_replaced_in_one_command_and_its_wiped_disk_gets_no_vote() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let (mut cluster, workload) = one_of_five().await?;
    for id in [2, 3] {
        start(&mut cluster, id)?;
        let all: Vec<u16> = (1..=id).collect();
        change_until(&cluster, 1, &["add", &entry(&cluster, id)], &all).await?;
        cluster.wait_ready(id).await?;
    }

    // The disk of a member is lost. Started as a new server, it waits; nothing but a replacement
    // takes it in.
    cluster.kill(3).await?;
    workload.recorder().fault("disk of node 3 lost".to_owned());
    cluster.wipe(3)?;
    start(&mut cluster, 3)?;
    let third = entry(&cluster, 3);
    let refused = command(&cluster, 1, &["add", &third]).await.err().context("it was added")?;
    anyhow::ensure!(refused.to_string().contains("is a member already"), "{refused:#}");
    let (client, base) = (cluster.client().clone(), cluster.base(3));
    wait::holds_during("the wiped node takes no part", WATCH, || async {
        anyhow::ensure!(!client.is_ready(&base).await, "it says it is ready");
        Ok(())
    })
    .await?;
    command(&cluster, 2, &["replace", "3", &third]).await?;
    anyhow::ensure!(voters(&cluster, 2).await? == [1, 2, 3], "{}", roles(&cluster, 2).await?);
    cluster.wait_ready(3).await?;

    // A server is lost with its machine: another one takes its place, and is needed from then on.
    cluster.kill(2).await?;
    workload.recorder().fault("node 2 lost".to_owned());
    start(&mut cluster, 4)?;
    change_until(&cluster, 3, &["replace", "2", &entry(&cluster, 4)], &[1, 3, 4]).await?;
    cluster.wait_ready(4).await?;
    cluster.kill(1).await?;
    workload.recorder().fault("kill -9 of node 1, node 4 is needed now".to_owned());
    workload.resumed(PROGRESS_LIMIT).await?;
    start(&mut cluster, 1)?;
    cluster.wait_ready(1).await?;

    // The lost server comes back: it finds out that it was replaced.
    start(&mut cluster, 2)?;
    wait::until("the lost server says that it was removed", PROGRESS_LIMIT, || async {
        anyhow::ensure!(cluster.last_log(2).contains("was removed from the cluster"), "not yet");
        Ok(())
    })
    .await?;
    anyhow::ensure!(roles(&cluster, 1).await?.split(", ").count() == 3, "{}", roles(&cluster, 1).await?);
    // With its data it can be added again.
    let second = entry(&cluster, 2);
    change_until(&cluster, 1, &["add", &second], &[1, 2, 3, 4]).await?;
    cluster.wait_ready(2).await?;
    start(&mut cluster, 5)?;
    change_until(&cluster, 1, &["add", &entry(&cluster, 5)], &[1, 2, 3, 4, 5]).await?;

    scenario::judge(&mut cluster, workload, RESUME_LIMIT, PROVOKED).await?;
    Ok(())
}
