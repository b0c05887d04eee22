//! A group of competing consumers on a stream of one writer ([`crate::consumers`]).
//!
//! Faults go on all the time, so a message that was settled may come again. When the load ends, the
//! writer stops first, and the consumers settle what is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::StdRng;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::Reader;
use super::sessions::attempt;
use super::twins::unique_write;
use crate::check::consumers::RULE;
use crate::client::{ADMIN, basic};
use crate::consumers::{Books, Consumer, Fault};
use crate::feed;
use crate::observations::GroupBooks;
use crate::wait;
use crate::workload::GIVE_UP;

/// Consumers of a group.
const CONSUMERS: u64 = 2;

/// Until everything is settled: the time of messages that nobody settles, several times over.
const END_LIMIT: Duration = Duration::from_secs(20);

/// No message is parked because its consumers were cut off.
const SETTINGS: &str = r#"{"messageTimeoutMilliseconds":2000,"maxRetryCount":1000,"minCheckPointCount":1}"#;

pub(super) async fn run(reader: Reader) {
    let stream = format!("orders-{}", reader.node);
    let group = format!("/subscriptions/{stream}/workers");
    let books = Arc::<Books>::default();
    books.fault(Fault::begins());
    let (calm, stop, stored) = (Arc::default(), Arc::<AtomicBool>::default(), AtomicU64::new(0));
    if !make(&reader, &group).await {
        return;
    }
    let consumer = |name: u64| Consumer {
        name,
        group: group.clone(),
        client: reader.client.clone(),
        bases: reader.nodes.iter().map(|(_, base)| base.clone()).collect(),
        up: reader.liveness.clone(),
        random: StdRng::seed_from_u64(rand::random()),
        books: books.clone(),
        calm: Arc::clone(&calm),
    };
    let consumers = futures::future::join_all((0..CONSUMERS).map(|name| consumer(name).run(stop.clone())));
    let writing = async {
        write(&reader, &stream, &stored).await;
        calm.store(true, Ordering::SeqCst);
        let settled = all_settled(&reader, &group, stored.load(Ordering::SeqCst)).await;
        stop.store(true, Ordering::SeqCst);
        settled
    };
    let (ended, settled) = futures::join!(consumers, writing);
    for error in ended.into_iter().chain([settled]).filter_map(Result::err) {
        reader.observer.trouble(RULE, format!("{group}: {error:#}"));
    }
    match parked(&reader, &stream).await {
        Ok(parked) => {
            let of = GroupBooks { group, stored: stored.into_inner(), parked, books };
            reader.observer.add(|seen| seen.groups.push(of));
        }
        Err(error) => reader.observer.trouble(RULE, format!("{group}: the parked messages: {error:#}")),
    }
}

/// Makes the group; false when the run is over first.
async fn make(reader: &Reader, group: &str) -> bool {
    let administrator = basic(ADMIN);
    let headers = [("Authorization", administrator.as_str()), ("Content-Type", "application/json")];
    while reader.goes_on().await {
        let url = format!("{}{group}", reader.base());
        let made = reader.client.request(Method::PUT, &url, &headers, SETTINGS.into()).await;
        // An attempt without an answer may have made it.
        if made.is_ok_and(|made| matches!(made.status(), StatusCode::CREATED | StatusCode::CONFLICT)) {
            return true;
        }
    }
    false
}

/// Appends events one after the other.
async fn write(reader: &Reader, stream: &str, stored: &AtomicU64) {
    let mut turn = usize::from(reader.node);
    while reader.goes_on().await {
        let mut write = unique_write(stream, "ordered");
        let started = Instant::now();
        // Also beyond the end of the run, so that its outcome is known.
        while !write.is_acknowledged() && started.elapsed() < GIVE_UP {
            turn += 1;
            let (node, base) = &reader.nodes[turn % reader.nodes.len()];
            if !reader.liveness.is_up(*node) || attempt(reader, &mut write, *node, base).await.is_none() {
                tokio::time::sleep(reader.period()).await;
            }
        }
        stored.fetch_add(u64::from(write.is_acknowledged()), Ordering::SeqCst);
        reader.recorder.write(write);
    }
}

/// Waits until the group has settled so many events.
async fn all_settled(reader: &Reader, group: &str, stored: u64) -> anyhow::Result<()> {
    let administrator = basic(ADMIN);
    let last = i64::try_from(stored)? - 1;
    wait::until("all messages are settled", END_LIMIT, || async {
        let url = format!("{}{group}/info", reader.base());
        let answer = reader.client.get(&url, &[("Authorization", &administrator)]).await?;
        anyhow::ensure!(answer.status() == StatusCode::OK, "{url}: {}", answer.status());
        let told: Value = answer.json().await?;
        let done = &told["lastProcessedEventNumber"];
        anyhow::ensure!(stored == 0 || done.as_i64() == Some(last), "settled up to {done} of {last}: {told}");
        Ok(())
    })
    .await
}

/// Numbers of the events that the group has parked.
async fn parked(reader: &Reader, stream: &str) -> anyhow::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    loop {
        let from = numbers.len();
        let url = format!(
            "{}/streams/%24persistentsubscription-{stream}%3A%3Aworkers-parked/{from}/forward/100?embed=body",
            reader.base()
        );
        let page = match reader.client.get_feed(&url, &feed::AS_STORED).await {
            Ok(page) => page,
            // Nothing was ever parked.
            Err(error) if numbers.is_empty() && format!("{error:#}").contains("404") => return Ok(numbers),
            Err(error) => return Err(error),
        };
        let entries = page["entries"].as_array().context("no entries")?;
        if entries.is_empty() {
            return Ok(numbers);
        }
        for entry in entries.iter().rev() {
            let metadata = entry["metaData"].as_str().with_context(|| format!("no metadata: {entry}"))?;
            let metadata: Value = serde_json::from_str(metadata)?;
            numbers.push(metadata["subscriptionEventNumber"].as_u64().context("no number")?);
        }
    }
}
