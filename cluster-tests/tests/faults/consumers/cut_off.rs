//! The leader of a group is cut off from the other nodes, and consumers go on asking all of them.

use std::time::{Duration, Instant};

use anyhow::Context;
use headwater_cluster_tests::client::{ADMIN, Client, basic};
use headwater_cluster_tests::cluster::Options;
use headwater_cluster_tests::consumers::{Fault, IN_TIME};
use headwater_cluster_tests::links::partition;
use headwater_cluster_tests::serial;
use reqwest::{Method, StatusCode};

use super::trial::{PHASE_EVENTS, Trial};
use super::{GROUP, SEED};
use crate::PROGRESS_LIMIT;
use crate::random_faults::from_environment;

/// How long a leader goes on that hears no majority: `--election-max-ms` as it is by default.
const DEPOSED_AFTER: Duration = Duration::from_millis(800);

/// How much later a debug build on a busy machine may be.
const SLACK: Duration = Duration::from_secs(2);

/// Events that are settled while the leader is cut off. Each request to it takes as long as it is
/// patient, so there are few.
const CUT_OFF_EVENTS: usize = 20;

/// Asks a leader that was cut off to settle messages until it refuses; returns when it accepted the
/// last one.
async fn last_accepted(client: &Client, base: &str) -> anyhow::Result<Instant> {
    let (authorization, mut last) = (basic(ADMIN), Instant::now());
    let headers = [("Authorization", authorization.as_str())];
    let started = Instant::now();
    while started.elapsed() < PROGRESS_LIMIT {
        let url = format!("{base}{GROUP}/ack/{}", uuid::Uuid::new_v4());
        match client.request(Method::POST, &url, &headers, Vec::new()).await?.status() {
            StatusCode::ACCEPTED => last = Instant::now(),
            StatusCode::SERVICE_UNAVAILABLE => return Ok(last),
            status => anyhow::bail!("{url}: {status}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("{base} accepts for {PROGRESS_LIMIT:?} what no other node hears of")
}

/// One round: nothing that the leader sends arrives, and, if `is_deaf`, nothing of the others
/// arrives at it.
async fn cut_leader_off(trial: &mut Trial, is_deaf: bool) -> anyhow::Result<()> {
    let leader = trial.cluster.leader().await?;
    let all = trial.cluster.ids();
    let others: Vec<u16> = all.iter().copied().filter(|node| *node != leader).collect();
    let cut = if is_deaf { partition::split(&[leader], &others) } else { partition::mute(leader, &all) };
    trial.avoid(leader);
    trial.books.fault(Fault::begins());
    let began = Instant::now();
    trial.cluster.links()?.cut(&cut);
    let accepted = last_accepted(trial.cluster.client(), &trial.cluster.base(leader)).await?;
    let lasted = accepted.duration_since(began);
    anyhow::ensure!(lasted <= DEPOSED_AFTER + SLACK, "the leader that was cut off went on for {lasted:?}");
    trial.cluster.leader_of(&others).await?;
    // What a consumer has from the old leader it may settle at the new one, which does not know
    // that it was handed out.
    trial.books.fault(Fault::ends_at(Instant::now() + IN_TIME));
    trial.go_on(CUT_OFF_EVENTS).await.context("while the old leader is cut off")?;
    trial.cluster.links()?.heal();
    trial.cluster.wait_ready(leader).await?;
    trial.avoid(0);
    eprintln!("node {leader} accepted for {lasted:?} after it was cut off");
    Ok(())
}

#[tokio::test]
async fn what_a_leader_settles_that_is_cut_off_comes_again_and_nothing_else_does() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let seed = from_environment("FAULTS_SEED")?.unwrap_or(SEED);
    eprintln!("FAULTS_SEED={seed}");
    let mut trial = Trial::start(seed, Options { links: Some(seed), ..Options::default() }).await?;
    for is_deaf in [true, false, true] {
        trial.go_on(PHASE_EVENTS).await?;
        cut_leader_off(&mut trial, is_deaf).await?;
    }
    trial.judge().await
}
