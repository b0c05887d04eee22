//! Streams that lose events, by deletion, truncation and `$maxCount`: a writer, and a model of what
//! has to be left of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::RngExt;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::cluster::Liveness;
use crate::feed::ReadEvent;

/// A write meets kills, elections and restarts.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// Before a request is repeated.
const PAUSE: Duration = Duration::from_millis(20);

/// What one stream should have.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// Ids by number.
    ids: Vec<String>,
    max_count: Option<u64>,
    truncate_before: u64,
    is_deleted: bool,
    is_gone: bool,
    /// A delete had no answer, and another one could meet what came after it: nothing is known.
    is_unknown: bool,
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

    fn differences(&self, name: &str, log: &[ReadEvent]) -> Vec<String> {
        let mut differences = Vec::new();
        let (tombstones, events): (Vec<&ReadEvent>, Vec<&ReadEvent>) =
            log.iter().filter(|event| event.stream == name).partition(|event| event.event_type == "$streamDeleted");
        let left: Vec<(u64, &str)> = events.iter().map(|event| (event.number, event.id.as_str())).collect();
        let from = self.visible_from();
        let expected: Vec<(u64, &str)> =
            self.ids.iter().enumerate().map(|(n, id)| (n as u64, id.as_str())).skip(from as usize).collect();
        // What was out of sight once may have been removed before it came into sight again.
        let may_lack = self.removable_below.saturating_sub(from) as usize;
        if !expected.ends_with(&left) || left.len() + may_lack < expected.len() {
            let described = log.iter().rfind(|event| event.stream == format!("$${name}"));
            let metadata = described.and_then(|event| event.data.as_deref());
            differences.push(format!(
                "{name} with {metadata:?}: left {left:?}, expected {expected:?} of which {may_lack} may lack"
            ));
        }
        if tombstones.len() != usize::from(self.is_gone) {
            differences.push(format!("{name}: {} tombstones", tombstones.len()));
        }
        differences
    }

    /// How many events were written.
    pub fn written(&self) -> usize {
        self.ids.len()
    }

    /// A stream with these ids, of which readers see those from a number on.
    #[cfg(test)]
    pub(crate) fn truncated(ids: &[&str], truncate_before: u64) -> Self {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let mut stream = Self { ids, truncate_before, ..Self::default() };
        stream.changed();
        stream
    }
}

/// One writer, the only one of its streams.
pub struct Writer {
    /// Its connections.
    pub client: Client,
    /// The nodes and their addresses.
    pub nodes: Vec<(u16, String)>,
    /// Those that it should ask.
    pub up: Liveness,
    /// Decides what it does.
    pub random: StdRng,
    /// Its streams.
    pub streams: BTreeMap<String, Stream>,
    /// Whether it repeats a delete that had no answer. Where requests can be late, a copy of it may
    /// come after later writes.
    pub repeats_deletes: bool,
}

/// How a request that changes something ended.
enum Sent {
    Done(reqwest::Response),
    /// It had no answer, and is not repeated.
    Unknown,
}

impl Writer {
    /// Writes as fast as it is answered, until it is stopped or all its streams are gone.
    pub async fn run(mut self, stop: Arc<AtomicBool>) -> anyhow::Result<BTreeMap<String, Stream>> {
        while !stop.load(Ordering::SeqCst) && self.step().await? {}
        Ok(self.streams)
    }

    /// Streams that can be written to.
    pub fn alive(&self) -> usize {
        self.streams.values().filter(|stream| !stream.is_gone && !stream.is_unknown).count()
    }

    /// One write; false when no stream is left to write to.
    pub async fn step(&mut self) -> anyhow::Result<bool> {
        let is_alive = |stream: &Stream| !stream.is_gone && !stream.is_unknown;
        let alive: Vec<&String> = self.streams.iter().filter(|(_, of)| is_alive(of)).map(|(name, _)| name).collect();
        let Some(name) = alive.get(self.random.random_range(0..alive.len().max(1))) else { return Ok(false) };
        let name = (*name).clone();
        let mut stream = self.streams[&name].clone();
        self.change(&name, &mut stream).await.with_context(|| format!("writing to {name}"))?;
        stream.changed();
        self.streams.insert(name, stream);
        Ok(true)
    }

    async fn change(&mut self, name: &str, stream: &mut Stream) -> anyhow::Result<()> {
        match self.random.random_range(0..100) {
            0..70 => self.append(name, stream).await,
            70..80 => {
                let count = self.random.random_range(1..6);
                if self.describe(name, stream, json!({ "$maxCount": count })).await? {
                    (stream.max_count, stream.truncate_before) = (Some(count), 0);
                }
                Ok(())
            }
            80..90 => {
                let before = self.random.random_range(0..=stream.next());
                if self.describe(name, stream, json!({ "$tb": before })).await? {
                    (stream.max_count, stream.truncate_before) = (None, before);
                }
                Ok(())
            }
            90..99 if stream.next() > 0 => {
                stream.is_unknown = !self.delete(name, "false").await?;
                stream.is_deleted = true;
                (stream.max_count, stream.truncate_before) = (None, 0);
                Ok(())
            }
            99 if stream.next() > 20 => {
                stream.is_unknown = !self.delete(name, "true").await?;
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
        let sent = self.send(Method::POST, &format!("/streams/{name}"), &headers, json!(events)).await?;
        let Sent::Done(response) = sent else { anyhow::bail!("an append was given up") };
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

    /// Writes metadata. False for a deleted stream: posted metadata would bring it back; an append
    /// does it here.
    async fn describe(&mut self, name: &str, stream: &mut Stream, metadata: Value) -> anyhow::Result<bool> {
        if stream.is_deleted {
            self.append(name, stream).await?;
            return Ok(false);
        }
        let id = uuid_of(&mut self.random);
        let headers =
            [("Content-Type", "application/json"), ("ES-EventType", "$metadata"), ("ES-EventId", id.as_str())];
        self.send(Method::POST, &format!("/streams/{name}/metadata"), &headers, metadata).await?;
        Ok(true)
    }

    /// Whether the delete was answered.
    async fn delete(&mut self, name: &str, hard: &'static str) -> anyhow::Result<bool> {
        let headers = [("ES-HardDelete", hard)];
        let sent = self.send(Method::DELETE, &format!("/streams/{name}"), &headers, Value::Null).await?;
        Ok(matches!(sent, Sent::Done(_)))
    }

    /// A node that should answer, or any.
    fn base(&mut self) -> String {
        let up: Vec<&(u16, String)> = self.nodes.iter().filter(|(node, _)| self.up.is_up(*node)).collect();
        let nodes = if up.is_empty() { self.nodes.iter().collect() } else { up };
        nodes[self.random.random_range(0..nodes.len())].1.clone()
    }

    /// Repeats the request, the same every time, until a node says that it is done.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> anyhow::Result<Sent> {
        let started = Instant::now();
        loop {
            let base = self.base();
            let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
            match self.client.request(method.clone(), &format!("{base}{path}"), headers, body).await {
                Ok(response) if response.status().is_success() => return Ok(Sent::Done(response)),
                // An earlier attempt has deleted the stream for ever.
                Ok(response) if response.status() == 410 && method == Method::DELETE => {
                    return Ok(Sent::Done(response));
                }
                // Certainly not done.
                Ok(response) if response.status() == 503 && started.elapsed() < WRITE_LIMIT => {
                    tokio::time::sleep(PAUSE).await
                }
                Ok(response) if response.status().is_client_error() && response.status() != 408 => {
                    anyhow::bail!("{method} {path}: {response:?}")
                }
                Ok(_) | Err(_) if method == Method::DELETE && !self.repeats_deletes => return Ok(Sent::Unknown),
                Ok(_) | Err(_) if started.elapsed() < WRITE_LIMIT => tokio::time::sleep(PAUSE).await,
                Ok(response) => anyhow::bail!("{method} {path}: not within {WRITE_LIMIT:?}: {response:?}"),
                Err(error) => return Err(error),
            }
        }
    }
}

fn uuid_of(random: &mut StdRng) -> String {
    uuid::Builder::from_random_bytes(random.random()).into_uuid().hyphenated().to_string()
}

/// Compares what is left of each stream in the log, after a run of the scavenge that came to its
/// end, with the model.
pub fn differences(log: &[ReadEvent], streams: &BTreeMap<String, Stream>) -> Vec<String> {
    let known = streams.iter().filter(|(_, stream)| !stream.is_unknown);
    known.flat_map(|(name, stream)| stream.differences(name, log)).collect()
}
