//! Reads the whole log of a node through `$all` as a client does: page by page along `previous`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;

use crate::client::Client;

/// Links are shown themselves, not what they lead to.
pub const AS_STORED: [(&str, &str); 1] = [("ES-ResolveLinkTos", "false")];

/// An event as a node shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEvent {
    /// Stream it is in.
    pub stream: String,
    /// Number in that stream.
    pub number: u64,
    /// Event id.
    pub id: String,
    /// Event type.
    pub event_type: String,
    /// Stored data as text; `None` when they are not JSON.
    pub data: Option<String>,
    /// When it was stored, by the clock of the leader (contract/streams 8.3).
    pub updated: Timestamp,
}

/// The complete `$all` of one node.
#[derive(Debug, Clone)]
pub struct NodeFeed {
    /// Server id of the node.
    pub node: u16,
    /// Every event, in log order.
    pub events: Vec<ReadEvent>,
    /// The position of each, as [`place`] has found it; else its place in the list.
    pub positions: Option<Vec<u64>>,
}

impl NodeFeed {
    /// A log from which nothing was ever removed.
    pub fn new(node: u16, events: Vec<ReadEvent>) -> Self {
        Self { node, events, positions: None }
    }

    /// The position of the event at this place of the list.
    pub fn position(&self, place: usize) -> u64 {
        self.positions.as_ref().and_then(|positions| positions.get(place).copied()).unwrap_or(place as u64)
    }

    /// The events of some streams, with their positions.
    pub fn of_streams(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let places = (0..self.events.len()).filter(|place| is_wanted(&self.events[*place].stream));
        let (events, positions) = places.map(|place| (self.events[place].clone(), self.position(place))).unzip();
        Self { node: self.node, events, positions: Some(positions) }
    }
}

/// A reader that remembers its place.
#[derive(Debug)]
pub struct FeedReader {
    base: String,
    next: String,
    feed: NodeFeed,
}

impl FeedReader {
    /// Starts at the beginning of the log. `page_size` bounds the answer of the node: at most 4096,
    /// fewer for big events.
    pub fn new(node: u16, base: &str, page_size: usize) -> Self {
        let next = format!("{base}/streams/%24all/{:032X}/forward/{page_size}?embed=body", 0);
        Self { base: base.to_owned(), next, feed: NodeFeed::new(node, Vec::new()) }
    }

    /// Reads on until the node shows no more events; returns how many it has shown in all.
    pub async fn read_on(&mut self, client: &Client) -> anyhow::Result<usize> {
        loop {
            let page = client.get_feed(&self.next, &AS_STORED).await?;
            let mut events = entries(&page).with_context(|| format!("in {}", self.next))?;
            if events.is_empty() {
                return Ok(self.feed.events.len());
            }
            self.feed.events.append(&mut events);
            let previous =
                link(&page, "previous").with_context(|| format!("{} has entries but no previous", self.next))?;
            anyhow::ensure!(previous != self.next, "{} names itself as its previous page", self.next);
            anyhow::ensure!(previous.starts_with(&self.base), "{} leads to {previous}", self.next);
            self.next = with_embed(previous);
        }
    }

    /// The events read so far.
    pub fn into_feed(self) -> NodeFeed {
        self.feed
    }
}

/// Reads `$all` of every node given as (server id, base address), until all show equally many
/// events, but no longer than `limit`. A remaining difference is left to the checkers and is not an
/// error here.
pub async fn read_all(
    client: &Client,
    nodes: &[(u16, String)],
    page_size: usize,
    limit: Duration,
) -> anyhow::Result<Vec<NodeFeed>> {
    let started = Instant::now();
    let mut readers: Vec<FeedReader> =
        nodes.iter().map(|(node, base)| FeedReader::new(*node, base, page_size)).collect();
    loop {
        let mut lengths = Vec::with_capacity(readers.len());
        for reader in &mut readers {
            lengths.push(reader.read_on(client).await?);
        }
        let equal = lengths.iter().all(|length| Some(length) == lengths.first());
        if equal || started.elapsed() > limit {
            return Ok(readers.into_iter().map(FeedReader::into_feed).collect());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Learns the true positions of the events from an export of the node: where events were removed
/// for ever, they are not the places in the list.
pub async fn place(client: &Client, base: &str, feed: &mut NodeFeed) -> anyhow::Result<()> {
    let mut known: HashMap<(String, u64), u64> = HashMap::new();
    let mut next = 0;
    loop {
        let lines = client.export(base, next).await?;
        for line in &lines {
            if let (Some(stream), Some(number), Some(position)) =
                (line["stream"].as_str(), line["number"].as_u64(), line["position"].as_u64())
            {
                known.insert((stream.to_owned(), number), position);
            }
        }
        let page = lines.last().map(|line| &line["page"]).context("an export without an end")?;
        let (further, end) = (page["next"].as_u64(), page["end"].as_u64());
        match further.zip(end).with_context(|| format!("an export ends with {page}"))? {
            (further, end) if further >= end || further <= next => break,
            (further, _) => next = further,
        }
    }
    let position = |event: &ReadEvent| {
        let key = (event.stream.clone(), event.number);
        known.get(&key).copied().with_context(|| format!("the export of {base} lacks {event:?}"))
    };
    feed.positions = Some(feed.events.iter().map(position).collect::<anyhow::Result<_>>()?);
    Ok(())
}

/// The events of a page, oldest first (contract/streams 8.3: entries are newest first).
pub fn entries(page: &Value) -> anyhow::Result<Vec<ReadEvent>> {
    let entries = page.get("entries").and_then(Value::as_array).context("no entries")?;
    entries.iter().rev().map(entry).collect()
}

fn entry(value: &Value) -> anyhow::Result<ReadEvent> {
    let text = |name: &str| {
        value.get(name).and_then(Value::as_str).map(str::to_owned).with_context(|| format!("no {name} in {value}"))
    };
    Ok(ReadEvent {
        stream: text("streamId")?,
        number: value.get("eventNumber").and_then(Value::as_u64).context("no eventNumber")?,
        id: text("eventId")?,
        event_type: text("eventType")?,
        data: value.get("data").and_then(Value::as_str).map(str::to_owned),
        updated: text("updated")?.parse().with_context(|| format!("not a time in {value}"))?,
    })
}

/// Target of a feed link.
pub fn link(page: &Value, relation: &str) -> Option<String> {
    let links = page.get("links")?.as_array()?;
    let found = links.iter().find(|link| link.get("relation").and_then(Value::as_str) == Some(relation))?;
    found.get("uri").and_then(Value::as_str).map(str::to_owned)
}

/// Links do not repeat the embed level of their page.
fn with_embed(uri: String) -> String {
    if uri.contains('?') { uri } else { format!("{uri}?embed=body") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_oldest_first() {
        let page = serde_json::json!({
            "links": [{"uri": "http://x/next", "relation": "next"}, {"uri": "http://x/previous", "relation": "previous"}],
            "entries": [
                {"eventId": "b", "eventType": "t", "eventNumber": 1, "data": "{}", "streamId": "s", "updated": "2026-01-01T00:00:01.5Z"},
                {"eventId": "a", "eventType": "t", "eventNumber": 0, "streamId": "s", "updated": "2026-01-01T00:00:01Z"},
            ],
        });
        let events = entries(&page).unwrap();
        assert_eq!(events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(events[0].data, None);
        assert_eq!(events[1].updated.duration_since(events[0].updated).as_millis(), 500);
        assert_eq!(link(&page, "previous").as_deref(), Some("http://x/previous"));
    }
}
