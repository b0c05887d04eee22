//! Clocks that jump, on the leader and on others: times of events, and `$maxAge`.
//!
//! These tests need Debian's package libfaketime, which `make faults` installs as root. Elsewhere
//! they are skipped with a message.

use std::io::Write as _;

use headwater_cluster_tests::check::availability::RESUME_LIMIT;
use headwater_cluster_tests::client::{ADMIN, basic};
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::feed::{self, ReadEvent};
use headwater_cluster_tests::history::{Answer, SentEvent};
use headwater_cluster_tests::workload::{Rate, Workload};
use headwater_cluster_tests::{check, clock, scenario, serial, wait};
use reqwest::Method;

use crate::PROGRESS_LIMIT;

/// Every jump here is one of so many seconds, or a part of it.
const HOUR_S: f64 = 3_600.0;

/// The age at which events of the test disappear: far longer than the test takes, far shorter than
/// a jump.
const MAX_AGE_S: u64 = 900;

/// The stream with that age.
const STREAM: &str = "aging";

/// Nodes say that their clock has jumped.
const PROVOKED: &[&str] = &["WARN*the clock of this machine jumped"];

#[tokio::test]
async fn times_stand_still_until_the_clock_of_the_leader_has_passed_them() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let Some(mut cluster) = cluster_or_skip().await? else { return Ok(()) };
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(100, PROGRESS_LIMIT).await?;

    let first = cluster.leader().await?;
    let before = newest(&cluster, first).await?;
    cluster.clocks()?.jump(first, HOUR_S)?;
    workload.recorder().fault(format!("the clock of leader {first} jumps an hour ahead"));
    workload.progress(100, PROGRESS_LIMIT).await?;
    let ahead = newest(&cluster, first).await?;
    let gained_s = ahead.updated.duration_since(before.updated).as_secs();
    anyhow::ensure!((3_590..3_720).contains(&gained_s), "the leader stamps by its clock: {gained_s} s later");

    // The next leader has another clock, and has to stamp what is in the log again and again.
    cluster.kill(first).await?;
    workload.recorder().fault(format!("kill -9 of leader {first}"));
    workload.resumed(PROGRESS_LIMIT).await?;
    let second = cluster.leader().await?;
    workload.progress(100, PROGRESS_LIMIT).await?;
    let stands_still = newest(&cluster, second).await?;
    anyhow::ensure!(stands_still.updated >= ahead.updated, "{stands_still:?} after {ahead:?}");
    let still_ahead_s = stands_still.updated.duration_since(ahead.updated).as_secs();
    anyhow::ensure!(still_ahead_s < 60, "the next leader has the right clock: {still_ahead_s} s later");

    cluster.clocks()?.jump(second, -HOUR_S)?;
    workload.recorder().fault(format!("the clock of leader {second} jumps an hour back"));
    workload.progress(100, PROGRESS_LIMIT).await?;
    cluster.start(first)?;
    cluster.wait_ready(first).await?;
    cluster.clocks()?.heal()?;
    workload.progress(100, PROGRESS_LIMIT).await?;

    // Times are among what it judges.
    scenario::judge(&mut cluster, workload, RESUME_LIMIT, PROVOKED).await?;
    Ok(())
}

#[tokio::test]
async fn each_node_hides_old_events_by_its_own_clock_and_no_other() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let Some(mut cluster) = cluster_or_skip().await? else { return Ok(()) };
    let (leader, follower) = (cluster.leader().await?, cluster.follower().await?);
    let third = cluster.ids().into_iter().find(|id| *id != leader && *id != follower).unwrap_or(1);
    limit_age(&cluster, leader).await?;
    for number in 0..5 {
        append(&cluster, leader, number).await?;
    }
    let all: Vec<u64> = (0..5).collect();
    shows_everywhere(&cluster, &all).await?;

    // Ahead: they are too old for this node, and for no other.
    cluster.clocks()?.jump(follower, HOUR_S)?;
    shows(&cluster, follower, &[]).await?;
    shows(&cluster, leader, &all).await?;
    shows(&cluster, third, &all).await?;
    // Behind: they are younger than nothing.
    cluster.clocks()?.jump(follower, -2.0 * HOUR_S)?;
    shows_everywhere(&cluster, &all).await?;
    cluster.clocks()?.heal()?;
    shows_everywhere(&cluster, &all).await?;

    // A leader that is ahead stamps by its clock; what it hides, it does not take from others.
    cluster.clocks()?.jump(leader, HOUR_S)?;
    shows(&cluster, leader, &[]).await?;
    append(&cluster, third, 5).await?;
    shows(&cluster, leader, &[5]).await?;
    let all: Vec<u64> = (0..6).collect();
    shows(&cluster, follower, &all).await?;
    shows(&cluster, third, &all).await?;

    // A process that starts with a wrong clock judges by that.
    cluster.kill(follower).await?;
    cluster.clocks()?.jump(follower, HOUR_S)?;
    cluster.start(follower)?;
    cluster.wait_ready(follower).await?;
    shows(&cluster, follower, &[5]).await?;

    cluster.clocks()?.heal()?;
    shows_everywhere(&cluster, &all).await?;
    let feeds = feed::read_all(cluster.client(), &cluster.bases(), 512, PROGRESS_LIMIT).await?;
    let history = headwater_cluster_tests::history::History::default();
    check::none(&[check::times::check(&history, &feeds), check::same_everywhere::check(&history, &feeds)].concat())?;
    check::none(&check::logs::check(&cluster.logs()?, PROVOKED)?)?;
    cluster.passed()?;
    Ok(())
}

/// Three nodes whose clocks can be moved, where that is possible.
async fn cluster_or_skip() -> anyhow::Result<Option<Cluster>> {
    if !clock::is_available() {
        // Not by `eprintln!`, whose lines are not shown when a test passes.
        writeln!(std::io::stderr(), "SKIPPED, needs libfaketime")?;
        return Ok(None);
    }
    Cluster::started(3, Options { clocks: true, ..Options::default() }).await.map(Some)
}

async fn newest(cluster: &Cluster, node: u16) -> anyhow::Result<ReadEvent> {
    let url = format!("{}/streams/%24all/head/backward/1?embed=body", cluster.base(node));
    let page = cluster.client().get_feed(&url, &[]).await?;
    feed::entries(&page)?.into_iter().next().ok_or_else(|| anyhow::anyhow!("the log is empty"))
}

async fn limit_age(cluster: &Cluster, node: u16) -> anyhow::Result<()> {
    let (url, id, login) =
        (format!("{}/streams/{STREAM}/metadata", cluster.base(node)), uuid::Uuid::new_v4().to_string(), basic(ADMIN));
    let headers = [
        ("Content-Type", "application/json"),
        ("ES-EventType", "$metadata"),
        ("ES-EventId", &id),
        ("Authorization", &login),
    ];
    let body = format!("{{\"$maxAge\": {MAX_AGE_S}}}").into_bytes();
    let answer = cluster.client().request(Method::POST, &url, &headers, body).await?;
    anyhow::ensure!(answer.status().as_u16() == 201, "{}", answer.status());
    Ok(())
}

async fn append(cluster: &Cluster, node: u16, number: u64) -> anyhow::Result<()> {
    let event = SentEvent {
        id: uuid::Uuid::new_v4().to_string(),
        event_type: "aged".to_owned(),
        stored_data: format!("{{\n  \"number\": {number}\n}}"),
    };
    let answer = cluster.client().append(&cluster.base(node), STREAM, number as i64 - 1, &[event]).await;
    anyhow::ensure!(matches!(answer, Answer::Acknowledged { .. }), "{answer:?}");
    Ok(())
}

/// The numbers that a node shows of the stream, whichever way they are read.
async fn shows(cluster: &Cluster, node: u16, expected: &[u64]) -> anyhow::Result<()> {
    let base = cluster.base(node);
    wait::until(&format!("node {node} shows {expected:?}"), PROGRESS_LIMIT, || async {
        for page in ["head/backward/20", "0/forward/20"] {
            let page = cluster.client().get_feed(&format!("{base}/streams/{STREAM}/{page}?embed=body"), &[]).await?;
            let shown: Vec<u64> = feed::entries(&page)?.iter().map(|event| event.number).collect();
            anyhow::ensure!(shown == expected, "it shows {shown:?}");
        }
        for number in 0..expected.last().map_or(5, |last| last + 1) {
            let url = format!("{base}/streams/{STREAM}/{number}");
            let status = cluster.client().get(&url, &[("Accept", "application/json")]).await?.status().as_u16();
            let is_shown = expected.contains(&number);
            anyhow::ensure!(status == if is_shown { 200 } else { 404 }, "event {number}: {status}");
        }
        Ok(())
    })
    .await
}

async fn shows_everywhere(cluster: &Cluster, expected: &[u64]) -> anyhow::Result<()> {
    for node in cluster.ids() {
        shows(cluster, node, expected).await?;
    }
    Ok(())
}
