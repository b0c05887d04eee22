//! Groups of competing consumers: how many messages a second are handed out and acknowledged.

use std::time::{Duration, Instant};

use anyhow::Context;
use headwater_cluster_tests::client::{ADMIN, Client, EVENTS_JSON, basic};
use headwater_cluster_tests::usage;
use reqwest::Method;
use reqwest::header::HeaderValue;
use tokio::task::JoinSet;

use crate::Plan;
use crate::headwater::{EVENT_BYTES, Headwater};
use crate::load::median;
use crate::report::Section;

/// Consumers, which take turns in the nodes that they ask.
const CONSUMERS: u16 = 8;

/// Messages of one request.
const BATCH: usize = 20;

/// Events of one POST that fills the stream.
const FILLED: usize = 500;

/// More than can be consumed in a second.
const EVENTS_PER_SECOND: u64 = 60_000;

const NODES: u16 = 3;

const GROUP: &str = "/subscriptions/consumed/bench";

/// Messages to every consumer, and acknowledgements of them, as fast as it goes.
pub(crate) async fn consumers(plan: &Plan) -> anyhow::Result<Section> {
    let mut section = Section::new("Competing consumers on three nodes");
    let headwater = Headwater::start(NODES).await?;
    let client = Client::new()?;
    let base = format!("http://{}", headwater.leader().await?);
    // As many as a group may read ahead.
    let settings = br#"{"bufferSize":10000,"readBatchSize":500,"messageTimeoutMilliseconds":60000}"#;
    let authorization = basic(ADMIN);
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let made = client.request(Method::PUT, &format!("{base}{GROUP}"), &headers, settings.to_vec()).await?;
    anyhow::ensure!(made.status() == 201, "the group is not made: {}", made.status());
    let rounds = plan.rounds as u32;
    fill(&client, &base, EVENTS_PER_SECOND * (plan.round * rounds).as_secs().max(1)).await?;
    headwater.settle().await?;
    let mut rates = Vec::new();
    let mut costs = Vec::new();
    for _ in 0..rounds {
        let pids = headwater.pids()?;
        let before = usage::cpu_time_of_all(&pids)?;
        let started = Instant::now();
        let messages = round(&headwater, plan.round).await?;
        let passed = started.elapsed().as_secs_f64();
        let used = usage::cpu_time_of_all(&pids)?.saturating_sub(before);
        rates.push(messages as f64 / passed);
        costs.push(used.as_micros() as f64 / messages.max(1) as f64);
    }
    let name = format!("messages handed out and acknowledged, {CONSUMERS} consumers, batches of {BATCH}");
    section.fact(name, median(rates), "messages/s", "target: at least 20,000");
    section.fact("processor time of all nodes per message", median(costs), "us", "");
    Ok(section)
}

/// Appends so many events to the stream of the group.
async fn fill(client: &Client, base: &str, events: u64) -> anyhow::Result<()> {
    let data = "x".repeat(EVENT_BYTES);
    for _ in 0..events.div_ceil(FILLED as u64) {
        let event = |_| {
            let id = uuid::Uuid::new_v4();
            format!(r#"{{"eventId":"{id}","eventType":"consumed","data":"{data}"}}"#)
        };
        let all: Vec<String> = (0..FILLED).map(event).collect();
        let body = format!("[{}]", all.join(",")).into_bytes();
        let url = format!("{base}/streams/consumed");
        let answer = client.request(Method::POST, &url, &[("Content-Type", EVENTS_JSON)], body).await?;
        anyhow::ensure!(answer.status() == 201, "the stream is not filled: {}", answer.status());
    }
    Ok(())
}

/// Lets all consumers work for so long, and says how many messages they have acknowledged.
async fn round(headwater: &Headwater, duration: Duration) -> anyhow::Result<u64> {
    let mut consumers = JoinSet::new();
    let end = Instant::now() + duration;
    for consumer in 0..CONSUMERS {
        let base = format!("http://{}", headwater.address(consumer % NODES + 1)?);
        consumers.spawn(consume(base, end));
    }
    let mut messages = 0;
    while let Some(consumed) = consumers.join_next().await {
        messages += consumed??;
    }
    Ok(messages)
}

async fn consume(base: String, end: Instant) -> anyhow::Result<u64> {
    let client = Client::new()?;
    let url = format!("{base}{GROUP}/{BATCH}?embed=body");
    let accept = HeaderValue::from_static("application/vnd.eventstore.competingatom+json");
    let headers = [("Accept", accept.to_str()?)];
    let mut messages = 0;
    while Instant::now() < end {
        let answer = client.get(&url, &headers).await?;
        anyhow::ensure!(answer.status() == 200, "{url}: {}", answer.status());
        let feed = answer.text().await?;
        // The feed is not parsed: the cores are for the nodes.
        let ids = between(&feed, "/ack?ids=", '"').context("the stream is consumed: fewer messages were prepared")?;
        let acknowledge = format!("{base}{GROUP}/ack?ids={ids}");
        let answer = client.request(Method::POST, &acknowledge, &[], Vec::new()).await?;
        anyhow::ensure!(answer.status() == 202, "{acknowledge}: {}", answer.status());
        messages += ids.split(',').count() as u64;
    }
    Ok(messages)
}

/// What stands between a beginning and the next such character.
fn between<'a>(text: &'a str, beginning: &str, end: char) -> Option<&'a str> {
    let (_, rest) = text.split_once(beginning)?;
    rest.split_once(end).map(|(found, _)| found)
}
