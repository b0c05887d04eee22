//! A cluster with a group, while a writer and consumers are at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use headwater_cluster_tests::client::{ADMIN, Client, basic};
use headwater_cluster_tests::cluster::{Cluster, Liveness, Options};
use headwater_cluster_tests::consumers::{Books, Consumer, IN_TIME};
use headwater_cluster_tests::{check, wait};
use rand::SeedableRng;
use rand::rngs::StdRng;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};

use super::GROUP;
use crate::PROGRESS_LIMIT;

const CONSUMERS: u64 = 8;

/// Events that are settled between two faults.
pub(super) const PHASE_EVENTS: usize = 150;

/// Until everything is settled: the time of messages that nobody settles, several times over.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A message is parked after its fourth delivery, and each takes at most so long.
const SETTINGS: &str = r#"{"messageTimeoutMilliseconds":2000,"maxRetryCount":3,"minCheckPointCount":1}"#;

/// Lines of the logs that these faults cause. A leader that was cut off does not know it yet when
/// a scavenge is due, or is at work on one.
const EXPECTED_LINES: [&str; 3] =
    ["is taken up anew", "the scavenge that is due was not started", "the scavenge is interrupted"];

/// Between two looks for the leader.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// What is at work.
pub(super) struct Trial {
    pub(super) cluster: Cluster,
    pub(super) books: Arc<Books>,
    /// Consumers acknowledge everything.
    calm: Arc<AtomicBool>,
    /// Consumers end.
    stop: Arc<AtomicBool>,
    /// The writer ends.
    stop_writer: Arc<AtomicBool>,
    avoided: Arc<AtomicU16>,
    stored: Arc<AtomicU64>,
    writer: JoinHandle<anyhow::Result<()>>,
    consumers: JoinSet<anyhow::Result<()>>,
}

impl Trial {
    /// Three nodes, a group, a writer and consumers.
    pub(super) async fn start(seed: u64, options: Options) -> anyhow::Result<Self> {
        let options = Options { extra: vec!["--drain-ms=200".to_owned()], ..options };
        let cluster = Cluster::started(3, options).await?;
        make_group(&cluster).await?;
        let bases: Vec<String> = cluster.bases().into_iter().map(|(_, base)| base).collect();
        let (avoided, stored, stop_writer) = (Arc::default(), Arc::default(), Arc::default());
        let writer = Writer {
            bases: bases.clone(),
            up: cluster.liveness(),
            avoided: Arc::clone(&avoided),
            stored: Arc::clone(&stored),
            stop: Arc::clone(&stop_writer),
        };
        let writer = tokio::spawn(append(writer));
        let (books, stop, calm) = (Arc::<Books>::default(), Arc::<AtomicBool>::default(), Arc::default());
        let mut consumers = JoinSet::new();
        for name in 0..CONSUMERS {
            let consumer = Consumer {
                name,
                group: GROUP.to_owned(),
                client: Client::new()?,
                bases: bases.clone(),
                up: cluster.liveness(),
                random: StdRng::seed_from_u64(seed ^ (name + 1)),
                books: books.clone(),
                calm: Arc::clone(&calm),
            };
            consumers.spawn(consumer.run(stop.clone()));
        }
        consumers.spawn(watch_leaders(cluster.client().clone(), bases, Arc::clone(&books), Arc::clone(&stop)));
        Ok(Self { cluster, books, calm, stop, stop_writer, avoided, stored, writer, consumers })
    }

    /// Returns when so many more messages are settled.
    pub(super) async fn go_on(&self, events: usize) -> anyhow::Result<()> {
        let target = self.books.settled() + events;
        wait::until("messages are settled", PROGRESS_LIMIT, || async {
            let settled = self.books.settled();
            let stored = self.stored.load(Ordering::SeqCst);
            anyhow::ensure!(settled >= target, "{settled} of {target}, and {stored} are stored");
            Ok(())
        })
        .await
    }

    /// From here on the writer asks other nodes only; all again with 0.
    pub(super) fn avoid(&self, node: u16) {
        self.avoided.store(node, Ordering::SeqCst);
    }

    /// Lets the consumers settle what is left, and judges their books and the logs of the nodes.
    pub(super) async fn judge(mut self) -> anyhow::Result<()> {
        self.stop_writer.store(true, Ordering::SeqCst);
        self.writer.await??;
        let stored = self.stored.load(Ordering::SeqCst);
        self.calm.store(true, Ordering::SeqCst);
        let last = i64::try_from(stored)? - 1;
        wait::until("all messages are settled", END_LIMIT, || async {
            let told = info(&self.cluster, 1).await?;
            let done = &told["lastProcessedEventNumber"];
            anyhow::ensure!(done.as_i64() == Some(last), "settled up to {done} of {last}: {told}");
            Ok(())
        })
        .await?;
        let ended = Instant::now();
        self.stop.store(true, Ordering::SeqCst);
        while let Some(consumer) = self.consumers.join_next().await {
            consumer??;
        }
        let parked = parked(&self.cluster, 3).await?;
        eprintln!("{}", self.books.judge(stored, &parked, ended)?);
        self.cluster.wait_all_ready().await?;
        check::none(&check::logs::check(&self.cluster.logs()?, &EXPECTED_LINES)?)?;
        self.cluster.passed()
    }
}

async fn make_group(cluster: &Cluster) -> anyhow::Result<()> {
    let authorization = basic(ADMIN);
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let url = format!("{}{GROUP}", cluster.base(2));
    let made = cluster.client().request(Method::PUT, &url, &headers, SETTINGS.as_bytes().to_vec()).await?;
    anyhow::ensure!(made.status() == StatusCode::CREATED, "the group is not made: {}", made.status());
    Ok(())
}

/// Appends events, one after the other, until it is stopped.
struct Writer {
    bases: Vec<String>,
    up: Liveness,
    /// A node that it does not ask; 0 for none.
    avoided: Arc<AtomicU16>,
    /// How many events are stored.
    stored: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

async fn append(writer: Writer) -> anyhow::Result<()> {
    let Writer { bases, up, avoided, stored, stop } = writer;
    let client = Client::new()?;
    let mut turn = 0;
    while !stop.load(Ordering::SeqCst) {
        let id = uuid::Uuid::new_v4().to_string();
        let headers = [("ES-EventType", "ordered"), ("ES-EventId", id.as_str()), ("Content-Type", "application/json")];
        // The same event until it is stored: its id makes that exact.
        loop {
            turn = (turn + 1) % bases.len();
            let node = turn as u16 + 1;
            if up.is_up(node) && avoided.load(Ordering::SeqCst) != node {
                let url = format!("{}/streams/orders", bases[turn]);
                let sent = client.request(Method::POST, &url, &headers, b"{}".to_vec()).await;
                if sent.is_ok_and(|answer| answer.status() == StatusCode::CREATED) {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stored.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Notes each new term of a leader, until it is stopped. The leader of a new term may be the one of
/// the term before.
async fn watch_leaders(
    client: Client,
    bases: Vec<String>,
    books: Arc<Books>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut newest: Option<(u64, Instant)> = None;
    while !stop.load(Ordering::SeqCst) {
        for base in &bases {
            let asked = Instant::now();
            let Ok(Some(term)) = client.term_led(base).await else { continue };
            match newest {
                Some((last, _)) if term < last => continue,
                Some((last, before)) if term > last => {
                    eprintln!("{base} leads in term {term}, the last one was {last}");
                    books.leader_changed(before, Instant::now() + IN_TIME);
                }
                _ => {}
            }
            newest = Some((term, asked));
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
    Ok(())
}

/// What the group says of itself.
async fn info(cluster: &Cluster, node: u16) -> anyhow::Result<Value> {
    let authorization = basic(ADMIN);
    let url = format!("{}{GROUP}/info", cluster.base(node));
    let answer = cluster.client().get(&url, &[("Authorization", &authorization)]).await?;
    anyhow::ensure!(answer.status() == StatusCode::OK, "{url}: {}", answer.status());
    answer.json().await.context("not JSON")
}

/// Numbers of the events that the group has parked, in the order of their parking.
async fn parked(cluster: &Cluster, node: u16) -> anyhow::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    loop {
        let page = format!(
            "{}/streams/%24persistentsubscription-orders%3A%3Aworkers-parked/{}/forward/100?embed=body",
            cluster.base(node),
            numbers.len()
        );
        let headers = [("ES-ResolveLinkTos", "false")];
        let feed = match cluster.client().get_feed(&page, &headers).await {
            Ok(feed) => feed,
            // Nothing was ever parked.
            Err(error) if numbers.is_empty() && format!("{error:#}").contains("404") => return Ok(numbers),
            Err(error) => return Err(error),
        };
        let entries = feed["entries"].as_array().context("no entries")?;
        if entries.is_empty() {
            return Ok(numbers);
        }
        for entry in entries.iter().rev() {
            let metadata = entry["metaData"].as_str().with_context(|| format!("no metadata: {entry}"))?;
            let metadata: Value = serde_json::from_str(metadata)?;
            let number = metadata["subscriptionEventNumber"].as_u64();
            numbers.push(number.with_context(|| format!("no number: {metadata}"))?);
        }
    }
}
