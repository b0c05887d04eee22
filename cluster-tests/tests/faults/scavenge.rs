//! A random mix of appends, deletes, truncation and recreation, while runs of the scavenge go on
//! and nodes are killed; then every node is compared event by event with a model. Backups are taken
//! meanwhile: each that comes to its end is sound.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::client::{ADMIN, Client, basic};
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::feed::{ReadEvent, read_all};
use headwater_cluster_tests::removal::{Stream, Writer, differences};
use headwater_cluster_tests::{serial, wait};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::Value;

use crate::program;
use crate::random_faults::from_environment;

/// As in `random_faults`: `FAULTS_SEED` and `FAULTS_ROUNDS` make another or a longer run.
const SEED: u64 = 20_261_128;
const ROUNDS: u32 = 8;
const WRITERS: u64 = 4;
const STREAMS_OF_A_WRITER: u64 = 3;
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// Many fail while nodes are killed.
const MOST_BACKUPS: u32 = 1_000;

/// Starts a run on some node whenever none goes on, and stops one now and then.
async fn scavenge(client: Client, bases: Vec<String>, mut random: StdRng, stop: Arc<AtomicBool>) -> u32 {
    let credentials = basic(ADMIN);
    let headers = [("Authorization", credentials.as_str())];
    let mut started = 0;
    while !stop.load(Ordering::SeqCst) {
        let base = &bases[random.random_range(0..bases.len())];
        if let Ok(response) =
            client.request(Method::POST, &format!("{base}/admin/scavenge"), &headers, Vec::new()).await
            && response.status().is_success()
        {
            started += 1;
            let id = response.json::<Value>().await.ok().and_then(|run| Some(run["scavengeId"].as_str()?.to_owned()));
            if let Some(id) = id.filter(|_| random.random_bool(0.2)) {
                let url = format!("{base}/admin/scavenge/{id}");
                let _ = client.request(Method::DELETE, &url, &headers, Vec::new()).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(20..300))).await;
    }
    started
}

/// Takes backups of some node, one after the other, and verifies each. A node that is killed ends
/// its backup: then nothing is there that could be taken for one. Returns how many came to their
/// end.
async fn back_up(
    directory: PathBuf,
    bases: Vec<String>,
    mut random: StdRng,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<u32> {
    let (mut complete, mut number) = (0, 0);
    while !stop.load(Ordering::SeqCst) || complete == 0 {
        number += 1;
        anyhow::ensure!(number < MOST_BACKUPS, "no backup came to its end");
        let to = directory.join(format!("backup-{number}"));
        let base = &bases[random.random_range(0..bases.len())];
        if program::backup(base, &to, None).await.is_ok() {
            let verified = program::run(&["verify", &to.display().to_string()]).await?;
            program::said(verified).with_context(|| format!("backup {number}"))?;
            complete += 1;
        } else {
            anyhow::ensure!(!to.join("backup.json").exists(), "a backup that was cut off looks whole");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(complete)
}

/// Lets a run go on to its end.
async fn scavenge_to_the_end(client: &Client, base: &str) -> anyhow::Result<()> {
    let credentials = basic(ADMIN);
    let headers = [("Authorization", credentials.as_str()), ("Accept", "application/json")];
    wait::until("a run ends with success", RUN_LIMIT, || async {
        let response = client.request(Method::POST, &format!("{base}/admin/scavenge"), &headers, Vec::new()).await?;
        anyhow::ensure!(response.status().is_success(), "{response:?}");
        let id = response.json::<Value>().await?["scavengeId"].clone();
        wait::until("the run ends", RUN_LIMIT, || async {
            let last: Value = client.get(&format!("{base}/admin/scavenge/last"), &headers).await?.json().await?;
            anyhow::ensure!(last["scavengeId"] != id || last["state"] != "Running", "{last}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn removal_under_kills_loses_nothing_that_can_be_seen() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let (seed, rounds) =
        (from_environment("FAULTS_SEED")?.unwrap_or(SEED), from_environment("FAULTS_ROUNDS")?.unwrap_or(ROUNDS));
    eprintln!("FAULTS_SEED={seed} FAULTS_ROUNDS={rounds}");
    let mut random = StdRng::seed_from_u64(seed);
    let extra = ["--scavenge-interval-s=0", "--snapshot-log-bytes=300000", "--keep-log-bytes=100000"];
    let mut cluster =
        Cluster::started(3, Options { extra: extra.map(str::to_owned).to_vec(), ..Options::default() }).await?;
    let bases: Vec<String> = cluster.bases().into_iter().map(|(_, base)| base).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let streams = (0..STREAMS_OF_A_WRITER).map(|of| (format!("s{writer}-{of}"), Stream::default())).collect();
            let (client, random) = (cluster.client().clone(), StdRng::seed_from_u64(seed + 1 + writer));
            let nodes = cluster.bases();
            let up = cluster.liveness();
            tokio::spawn(Writer { client, nodes, up, random, streams, repeats_deletes: true }.run(stop.clone()))
        })
        .collect();
    let runs = tokio::spawn(scavenge(
        cluster.client().clone(),
        bases.clone(),
        StdRng::seed_from_u64(seed + 100),
        stop.clone(),
    ));

    let backups = tokio::spawn(back_up(
        cluster.directory().to_owned(),
        bases.clone(),
        StdRng::seed_from_u64(seed + 200),
        stop.clone(),
    ));

    for round in 1..=rounds {
        tokio::time::sleep(Duration::from_millis(random.random_range(300..1_500))).await;
        let victim: u16 = random.random_range(1..=3);
        match random.random_range(0..4) {
            0 => {
                cluster.kill_all().await?;
                cluster.start_all()?;
            }
            _ => {
                cluster.kill(victim).await?;
                tokio::time::sleep(Duration::from_millis(random.random_range(0..1_000))).await;
                cluster.start(victim)?;
            }
        }
        if random.random_bool(0.7) {
            cluster.wait_all_ready().await.with_context(|| format!("FAULTS_SEED={seed}, round {round}"))?;
        }
    }

    cluster.wait_all_ready().await?;
    stop.store(true, Ordering::SeqCst);
    let mut streams = BTreeMap::new();
    for writer in writers {
        streams.extend(writer.await??);
    }
    let (runs, backups) = (runs.await?, backups.await??);
    let written: usize = streams.values().map(Stream::written).sum();
    anyhow::ensure!(runs > 0 && written > 200, "only {runs} runs and {written} events: nothing was tried");
    let client = cluster.client().clone();
    scavenge_to_the_end(&client, &bases[0]).await?;
    let feeds = read_all(&client, &cluster.bases(), 57, RUN_LIMIT).await?;
    let of = |feed: &[ReadEvent]| -> Vec<ReadEvent> { feed.to_vec() };
    let first = of(&feeds[0].events);
    for feed in &feeds {
        anyhow::ensure!(feed.events == first, "node {} differs from node 1", feed.node);
        let different = differences(&feed.events, &streams);
        anyhow::ensure!(different.is_empty(), "FAULTS_SEED={seed}, node {}: {different:#?}", feed.node);
    }
    eprintln!("{runs} runs; {backups} sound backups; {written} events written, {} left in the log", first.len());
    anyhow::ensure!(first.len() < written, "nothing was removed");

    // The same after a restart, from the disks alone.
    cluster.kill_all().await?;
    cluster.start_all()?;
    cluster.wait_all_ready().await?;
    for feed in read_all(&client, &cluster.bases(), 100, RUN_LIMIT).await? {
        anyhow::ensure!(feed.events.starts_with(&first), "node {} differs after the restart", feed.node);
    }
    cluster.passed()
}
