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
use headwater_cluster_tests::{serial, wait};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::program;
use crate::random_faults::from_environment;

/// As in `random_faults`: `FAULTS_SEED` and `FAULTS_ROUNDS` make another or a longer run.
const SEED: u64 = 20_261_128;
const ROUNDS: u32 = 8;
const WRITERS: u64 = 4;
const STREAMS_OF_A_WRITER: u64 = 3;
/// A write meets kills, elections and restarts.
const WRITE_LIMIT: Duration = Duration::from_secs(60);
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// Many fail while nodes are killed.
const MOST_BACKUPS: u32 = 1_000;

/// What one stream should have.
#[derive(Debug, Clone, Default)]
struct Stream {
    /// Ids by number.
    ids: Vec<String>,
    max_count: Option<u64>,
    truncate_before: u64,
    is_deleted: bool,
    is_gone: bool,
    /// Events below this were out of sight at some time: a run may have removed them.
    removable_below: u64,
}

impl Stream {
    fn next(&self) -> u64 {
        self.ids.len() as u64
    }

    /// The first number that readers should see.
    fn visible_from(&self) -> u64 {
        if self.is_deleted || self.is_gone {
            return self.next();
        }
        let by_count = self.max_count.map_or(0, |count| self.next().saturating_sub(count));
        by_count.max(self.truncate_before)
    }

    fn changed(&mut self) {
        self.removable_below = self.removable_below.max(self.visible_from());
    }
}

/// One writer, the only one of its streams.
struct Writer {
    client: Client,
    bases: Vec<String>,
    random: StdRng,
    streams: BTreeMap<String, Stream>,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>) -> anyhow::Result<BTreeMap<String, Stream>> {
        while !stop.load(Ordering::SeqCst) {
            let alive: Vec<&String> = self.streams.iter().filter(|(_, of)| !of.is_gone).map(|(name, _)| name).collect();
            let Some(name) = alive.get(self.random.random_range(0..alive.len().max(1))) else { break };
            let name = (*name).clone();
            let mut stream = self.streams[&name].clone();
            self.change(&name, &mut stream).await.with_context(|| format!("writing to {name}"))?;
            stream.changed();
            self.streams.insert(name, stream);
        }
        Ok(self.streams)
    }

    async fn change(&mut self, name: &str, stream: &mut Stream) -> anyhow::Result<()> {
        match self.random.random_range(0..100) {
            0..70 => self.append(name, stream).await,
            70..80 => {
                let count = self.random.random_range(1..6);
                self.describe(name, stream, json!({ "$maxCount": count })).await?;
                (stream.max_count, stream.truncate_before) = (Some(count), 0);
                Ok(())
            }
            80..90 => {
                let before = self.random.random_range(0..=stream.next());
                self.describe(name, stream, json!({ "$tb": before })).await?;
                (stream.max_count, stream.truncate_before) = (None, before);
                Ok(())
            }
            90..99 if stream.next() > 0 => {
                self.delete(name, "false").await?;
                stream.is_deleted = true;
                (stream.max_count, stream.truncate_before) = (None, 0);
                Ok(())
            }
            99 if stream.next() > 20 => {
                self.delete(name, "true").await?;
                stream.is_gone = true;
                Ok(())
            }
            _ => self.append(name, stream).await,
        }
    }

    async fn append(&mut self, name: &str, stream: &mut Stream) -> anyhow::Result<()> {
        let count = self.random.random_range(1..5);
        let ids: Vec<String> = (0..count).map(|_| uuid_of(&mut self.random)).collect();
        let events: Vec<Value> =
            ids.iter().map(|id| json!({ "eventId": id, "eventType": "t", "data": { "id": id } })).collect();
        let headers = [("Content-Type", "application/vnd.eventstore.events+json"), ("ES-ExpectedVersion", "-2")];
        let response = self.send(Method::POST, &format!("/streams/{name}"), &headers, json!(events)).await?;
        let location = response.headers().get("location").context("no Location")?.to_str()?.to_owned();
        let first: u64 = location.rsplit('/').next().unwrap_or_default().parse()?;
        anyhow::ensure!(first == stream.next(), "an append got {first}, {} events were acknowledged", stream.next());
        if stream.is_deleted {
            // The stream begins again.
            (stream.is_deleted, stream.truncate_before) = (false, stream.next());
        }
        stream.ids.extend(ids);
        Ok(())
    }

    async fn describe(&mut self, name: &str, stream: &mut Stream, metadata: Value) -> anyhow::Result<()> {
        if stream.is_deleted {
            // Posted metadata would bring the stream back; an append does it here.
            return self.append(name, stream).await;
        }
        let id = uuid_of(&mut self.random);
        let headers =
            [("Content-Type", "application/json"), ("ES-EventType", "$metadata"), ("ES-EventId", id.as_str())];
        self.send(Method::POST, &format!("/streams/{name}/metadata"), &headers, metadata).await?;
        Ok(())
    }

    async fn delete(&mut self, name: &str, hard: &'static str) -> anyhow::Result<()> {
        self.send(Method::DELETE, &format!("/streams/{name}"), &[("ES-HardDelete", hard)], Value::Null).await?;
        Ok(())
    }

    /// Repeats the request, the same every time, until a node says that it is done.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> anyhow::Result<reqwest::Response> {
        let started = std::time::Instant::now();
        loop {
            let base = &self.bases[self.random.random_range(0..self.bases.len())];
            let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
            match self.client.request(method.clone(), &format!("{base}{path}"), headers, body).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                // An earlier attempt has deleted the stream for ever.
                Ok(response) if response.status() == 410 && method == Method::DELETE => return Ok(response),
                Ok(response) if response.status().is_client_error() && response.status() != 408 => {
                    anyhow::bail!("{method} {path}: {response:?}")
                }
                Ok(_) | Err(_) if started.elapsed() < WRITE_LIMIT => {
                    tokio::time::sleep(Duration::from_millis(20)).await
                }
                Ok(response) => anyhow::bail!("{method} {path}: not within {WRITE_LIMIT:?}: {response:?}"),
                Err(error) => return Err(error),
            }
        }
    }
}

fn uuid_of(random: &mut StdRng) -> String {
    uuid::Builder::from_random_bytes(random.random()).into_uuid().hyphenated().to_string()
}

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

/// Compares what is left of each stream in the log with the model.
fn compare(log: &[ReadEvent], streams: &BTreeMap<String, Stream>) -> anyhow::Result<()> {
    for (name, stream) in streams {
        let left: Vec<(u64, &str)> = log
            .iter()
            .filter(|event| event.stream == *name && event.event_type != "$streamDeleted")
            .map(|event| (event.number, event.id.as_str()))
            .collect();
        let from = stream.visible_from();
        let expected: Vec<(u64, &str)> =
            stream.ids.iter().enumerate().map(|(n, id)| (n as u64, id.as_str())).skip(from as usize).collect();
        // What was out of sight once may have been removed before it came into sight again.
        let may_lack = stream.removable_below.saturating_sub(from) as usize;
        let is_suffix = expected.ends_with(&left);
        anyhow::ensure!(
            is_suffix && left.len() + may_lack >= expected.len(),
            "{name}: left {left:?}, expected {expected:?} of which {may_lack} may lack"
        );
        let tombstones =
            log.iter().filter(|event| event.stream == *name && event.event_type == "$streamDeleted").count();
        anyhow::ensure!(tombstones == usize::from(stream.is_gone), "{name}: {tombstones} tombstones");
    }
    Ok(())
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
            tokio::spawn(Writer { client, bases: bases.clone(), random, streams }.run(stop.clone()))
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
    let written: usize = streams.values().map(|stream| stream.ids.len()).sum();
    anyhow::ensure!(runs > 0 && written > 200, "only {runs} runs and {written} events: nothing was tried");
    let client = cluster.client().clone();
    scavenge_to_the_end(&client, &bases[0]).await?;
    let feeds = read_all(&client, &cluster.bases(), 57, RUN_LIMIT).await?;
    let of = |feed: &[ReadEvent]| -> Vec<ReadEvent> { feed.to_vec() };
    let first = of(&feeds[0].events);
    for feed in &feeds {
        anyhow::ensure!(feed.events == first, "node {} differs from node 1", feed.node);
        compare(&feed.events, &streams).with_context(|| format!("FAULTS_SEED={seed}, node {}", feed.node))?;
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
