//! A group of competing consumers, while nodes are stopped in order, killed and paused. Each
//! consumer keeps its own books of what it got and what it has settled; at the end they are
//! compared with what was appended and with what the group has parked.

mod books;
mod consumer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use headwater_cluster_tests::client::{ADMIN, Client, basic};
use headwater_cluster_tests::cluster::{Cluster, Liveness, Options};
use headwater_cluster_tests::{check, serial, wait};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::PROGRESS_LIMIT;
use crate::random_faults::from_environment;
use books::{Books, Fault};
use consumer::Consumer;

/// As in `random_faults`: `FAULTS_SEED` and `FAULTS_ROUNDS` make another or a longer run.
const SEED: u64 = 20_261_129;
const ROUNDS: u32 = 6;

const CONSUMERS: u64 = 8;

/// Events that are settled between two faults.
const PHASE_EVENTS: usize = 150;

/// Longer than an election, so that a paused leader is deposed.
const FREEZE: Duration = Duration::from_millis(2_500);

/// Until everything is settled: the time of messages that nobody settles, several times over.
const END_LIMIT: Duration = Duration::from_secs(60);

const GROUP: &str = "/subscriptions/orders/workers";

/// A message is parked after its fourth delivery, and each takes at most so long.
const SETTINGS: &str = r#"{"messageTimeoutMilliseconds":2000,"maxRetryCount":3,"minCheckPointCount":1}"#;

/// Appends events, one after the other, until it is stopped; counts those that are stored.
async fn append(bases: Vec<String>, up: Liveness, stored: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let client = Client::new()?;
    let mut turn = 0;
    while !stop.load(Ordering::SeqCst) {
        let id = uuid::Uuid::new_v4().to_string();
        let headers = [("ES-EventType", "ordered"), ("ES-EventId", id.as_str()), ("Content-Type", "application/json")];
        // The same event until it is stored: its id makes that exact.
        loop {
            turn = (turn + 1) % bases.len();
            if up.is_up(turn as u16 + 1) {
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

/// Makes one fault, and heals it.
async fn fault(cluster: &mut Cluster, random: &mut StdRng, books: &Books) -> anyhow::Result<()> {
    let leader = cluster.leader().await?;
    let follower = cluster.follower().await?;
    match random.random_range(0..5) {
        // Leadership is handed over in order: nothing that was settled may come again.
        0 | 1 => {
            let status = cluster.terminate(leader).await?;
            anyhow::ensure!(status.success(), "node {leader} ended with {status}");
            cluster.start(leader)?;
            cluster.wait_ready(leader).await?;
        }
        2 => {
            books.fault(Fault::begins());
            cluster.kill(leader).await?;
            cluster.start(leader)?;
            cluster.wait_ready(leader).await?;
            books.fault(Fault::ends());
        }
        3 => {
            cluster.kill(follower).await?;
            cluster.start(follower)?;
            cluster.wait_ready(follower).await?;
        }
        _ => {
            books.fault(Fault::begins());
            cluster.pause(leader)?;
            tokio::time::sleep(FREEZE).await;
            cluster.resume(leader)?;
            cluster.wait_ready(leader).await?;
            books.fault(Fault::ends());
        }
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

#[tokio::test]
async fn consumers_miss_nothing_and_get_nothing_again_that_an_ordered_stop_left_settled() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let seed = from_environment("FAULTS_SEED")?.unwrap_or(SEED);
    let rounds = from_environment("FAULTS_ROUNDS")?.unwrap_or(ROUNDS);
    eprintln!("FAULTS_SEED={seed} FAULTS_ROUNDS={rounds}");
    let mut random = StdRng::seed_from_u64(seed);
    let options = Options { extra: vec!["--drain-ms=200".to_owned()], ..Options::default() };
    let mut cluster = Cluster::started(3, options).await?;
    let authorization = basic(ADMIN);
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let made = cluster
        .client()
        .request(Method::PUT, &format!("{}{GROUP}", cluster.base(2)), &headers, SETTINGS.as_bytes().to_vec())
        .await?;
    anyhow::ensure!(made.status() == StatusCode::CREATED, "the group is not made: {}", made.status());

    let (stop_writer, stop, calm) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), Arc::default());
    let stored = Arc::<AtomicU64>::default();
    let bases: Vec<String> = cluster.bases().into_iter().map(|(_, base)| base).collect();
    let writer = tokio::spawn(append(bases.clone(), cluster.liveness(), stored.clone(), stop_writer.clone()));
    let books = Arc::new(Books::default());
    let mut consumers = tokio::task::JoinSet::new();
    for name in 0..CONSUMERS {
        let consumer = Consumer {
            name,
            client: Client::new()?,
            bases: bases.clone(),
            up: cluster.liveness(),
            random: StdRng::seed_from_u64(seed ^ (name + 1)),
            books: books.clone(),
            calm: Arc::clone(&calm),
        };
        consumers.spawn(consumer.run(stop.clone()));
    }

    for round in 0..rounds {
        let target = books.settled() + PHASE_EVENTS;
        wait::until("messages are settled", PROGRESS_LIMIT, || async {
            anyhow::ensure!(books.settled() >= target, "{} of {target}", books.settled());
            Ok(())
        })
        .await?;
        fault(&mut cluster, &mut random, &books).await.with_context(|| format!("in round {round}"))?;
    }
    stop_writer.store(true, Ordering::SeqCst);
    writer.await??;
    let stored = stored.load(Ordering::SeqCst);
    // From here on consumers acknowledge everything.
    calm.store(true, Ordering::SeqCst);
    let last = i64::try_from(stored)? - 1;
    wait::until("all messages are settled", END_LIMIT, || async {
        let told = info(&cluster, 1).await?;
        let done = &told["lastProcessedEventNumber"];
        anyhow::ensure!(done.as_i64() == Some(last), "settled up to {done} of {last}: {told}");
        Ok(())
    })
    .await?;
    let ended = Instant::now();
    stop.store(true, Ordering::SeqCst);
    while let Some(consumer) = consumers.join_next().await {
        consumer??;
    }
    let parked = parked(&cluster, 3).await?;
    let report = books.judge(stored, &parked, ended)?;
    eprintln!("{report}");
    cluster.wait_all_ready().await?;
    check::none(&check::logs::check(&cluster.logs()?, &["is taken up anew"])?)?;
    cluster.passed()
}
