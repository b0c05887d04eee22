//! One consumer: takes messages from any node, and settles them, or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::RngExt;
use rand::rngs::StdRng;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::books::{Books, Settled, Wish};
use crate::client::{ADMIN, Client, basic};
use crate::cluster::Liveness;

/// Messages of one request.
const BATCH: usize = 20;

/// Between two requests that found nothing.
const PAUSE: Duration = Duration::from_millis(20);

/// An answer within this time is one to a message that is certainly still out: well below the
/// timeout in the settings of the group.
pub const IN_TIME: Duration = Duration::from_millis(1_500);

const MESSAGES: &str = "application/vnd.eventstore.competingatom+json";

/// A consumer, see the module.
pub struct Consumer {
    /// Its number.
    pub name: u64,
    /// The path of its group.
    pub group: String,
    /// Its connections.
    pub client: Client,
    /// The nodes, in order of their numbers from 1 on.
    pub bases: Vec<String>,
    /// Those that it may ask.
    pub up: Liveness,
    /// Decides what it does.
    pub random: StdRng,
    /// What it gets and settles.
    pub books: Arc<Books>,
    /// It acknowledges everything.
    pub calm: Arc<AtomicBool>,
}

/// A message as it came.
struct Message {
    number: u64,
    id: String,
}

impl Consumer {
    /// Works until it is stopped.
    pub async fn run(mut self, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
        while !stop.load(Ordering::SeqCst) {
            let asked = Instant::now();
            match self.take().await? {
                Some(messages) if !messages.is_empty() => {
                    let numbers: Vec<u64> = messages.iter().map(|message| message.number).collect();
                    self.books.got(self.name, asked, &numbers);
                    self.settle(messages, asked).await?;
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        Ok(())
    }

    /// A node that should answer.
    fn base(&mut self) -> Option<String> {
        let up: Vec<&String> = self
            .bases
            .iter()
            .enumerate()
            .filter(|(at, _)| self.up.is_up(*at as u16 + 1))
            .map(|(_, base)| base)
            .collect();
        (!up.is_empty()).then(|| up[self.random.random_range(0..up.len())].clone())
    }

    /// Takes messages; nothing when the node did not answer, or not now.
    async fn take(&mut self) -> anyhow::Result<Option<Vec<Message>>> {
        let Some(base) = self.base() else { return Ok(None) };
        let authorization = basic(ADMIN);
        let url = format!("{base}{}/{BATCH}?embed=rich", self.group);
        let headers = [("Accept", MESSAGES), ("Authorization", authorization.as_str())];
        let Ok(answer) = self.client.get(&url, &headers).await else { return Ok(None) };
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE => return Ok(None),
            status => anyhow::bail!("{url}: {status}"),
        }
        let Ok(feed) = answer.json::<Value>().await else { return Ok(None) };
        let entries = feed["entries"].as_array().context("no entries")?;
        // The newest comes first.
        entries.iter().rev().map(message).collect::<anyhow::Result<Vec<_>>>().map(Some)
    }

    /// Settles most messages, each in its way, and forgets some, as a consumer that crashes does.
    async fn settle(&mut self, messages: Vec<Message>, asked: Instant) -> anyhow::Result<()> {
        let mut by_fate: [Vec<Message>; 4] = Default::default();
        for message in messages {
            let roll = if self.calm.load(Ordering::SeqCst) { 0 } else { self.random.random_range(0..100) };
            match roll {
                0..80 => by_fate[0].push(message),
                80..88 => by_fate[1].push(message),
                88..91 => by_fate[2].push(message),
                91..94 => by_fate[3].push(message),
                _ => {}
            }
        }
        let fates = [
            ("ack", "", Wish::Settle(Settled::Acknowledged)),
            ("nack", "&action=retry", Wish::Retry),
            ("nack", "&action=park", Wish::Settle(Settled::Parked)),
            ("nack", "&action=skip", Wish::Settle(Settled::Skipped)),
        ];
        for ((verb, action, wish), messages) in fates.into_iter().zip(by_fate) {
            if messages.is_empty() {
                continue;
            }
            let attempt = self.books.tries(self.name, wish, messages.iter().map(|message| message.number));
            if self.says(verb, action, &messages).await? {
                let answered = Instant::now();
                self.books.accepted(attempt, answered, answered.duration_since(asked) < IN_TIME);
            }
        }
        Ok(())
    }

    /// Whether the answer says that it is done.
    async fn says(&mut self, verb: &str, action: &str, messages: &[Message]) -> anyhow::Result<bool> {
        let Some(base) = self.base() else { return Ok(false) };
        let ids: Vec<&str> = messages.iter().map(|message| message.id.as_str()).collect();
        let url = format!("{base}{}/{verb}?ids={}{action}", self.group, ids.join(","));
        let authorization = basic(ADMIN);
        let headers = [("Authorization", authorization.as_str())];
        let Ok(answer) = self.client.request(Method::POST, &url, &headers, Vec::new()).await else { return Ok(false) };
        match answer.status() {
            StatusCode::ACCEPTED => Ok(true),
            StatusCode::SERVICE_UNAVAILABLE => Ok(false),
            status => anyhow::bail!("{url}: {status}"),
        }
    }
}

fn message(entry: &Value) -> anyhow::Result<Message> {
    let number = entry["eventNumber"].as_u64().with_context(|| format!("no number: {entry}"))?;
    let links = entry["links"].as_array().context("no links")?;
    let ack = links.iter().find(|link| link["relation"] == "ack").context("no link to acknowledge")?;
    let id = ack["uri"].as_str().and_then(|uri| uri.rsplit('/').next()).context("no id")?.to_owned();
    Ok(Message { number, id })
}
