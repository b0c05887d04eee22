//! Attacks, one file for each thing that strangers can make a node hold or do.
//!
//! An attack opens its connections, does what it does, and then holds them until it is dropped.
//! Where it has to keep working it does so seldom, because it shares the cores with the node.

mod bodies;
mod filters;
mod heads;
mod idle;
mod lists;
mod places;
mod unread;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use headwater_cluster_tests::client::{ADMIN, EVENTS_JSON, basic};
use tokio::task::JoinSet;

use crate::door::{Connection, Door};

/// Connections that are opened at a time.
const AT_ONCE: usize = 32;

/// An attack that cannot even begin within this has failed, which is good for the node.
pub(crate) const BEGIN_LIMIT: Duration = Duration::from_secs(90);

/// What a kind of attack leaves a node with at most, besides what it had: as computed in
/// docs/limits.md, with a quarter more for what the allocator keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// For the kind as a whole.
    pub(crate) shared_mib: u64,
    /// For each connection.
    pub(crate) each_kib: u64,
}

impl Bound {
    pub(crate) fn bytes(self, connections: usize) -> u64 {
        let computed = (self.shared_mib << 20) + (self.each_kib << 10) * connections as u64;
        computed + computed / 4
    }
}

/// A kind of attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// It is made over HTTP/2, or against handshakes.
    pub(crate) needs_tls: bool,
    pub(crate) bound: Bound,
    pub(crate) begin: Begin,
}

/// Begins an attack with so many connections.
type Begin = fn(Door, usize) -> Pin<Box<dyn Future<Output = anyhow::Result<Held>> + Send>>;

/// What an attack holds.
#[derive(Default)]
pub(crate) struct Held {
    _connections: Vec<Connection>,
    _tasks: JoinSet<()>,
}

/// All kinds, or the one that `HOSTILE_ONLY` names.
pub(crate) fn all() -> Vec<Attack> {
    let only = std::env::var("HOSTILE_ONLY").ok();
    [idle::all(), unread::all(), heads::all(), bodies::all(), lists::all(), filters::all(), places::all()]
        .into_iter()
        .flatten()
        .filter(|attack| only.as_ref().is_none_or(|only| attack.name == only))
        .collect()
}

/// Opens `count` connections, some at a time, and keeps those that came about: a node may refuse
/// them, or cut them off.
async fn hold<F>(count: usize, open: impl Fn(usize) -> F) -> Held
where
    F: Future<Output = anyhow::Result<Connection>>,
{
    let opened = futures::stream::iter((0..count).map(open)).buffer_unordered(AT_ONCE);
    Held { _connections: opened.filter_map(async |opened| opened.ok()).collect().await, _tasks: JoinSet::new() }
}

/// Appends events, each of a type and with data in JSON, in one request.
async fn append(door: &Door, stream: &str, events: impl Iterator<Item = (String, String)>) -> anyhow::Result<()> {
    let event = |(event_type, data): (String, String)| {
        format!(r#"{{"eventId":"{}","eventType":"{event_type}","data":{data}}}"#, uuid::Uuid::new_v4())
    };
    let body = format!("[{}]", events.map(event).collect::<Vec<_>>().join(","));
    let head = format!("{}Content-Type: {EVENTS_JSON}\r\n", door.request_line("POST", &format!("/streams/{stream}")));
    let answer = door.exchange(&head, body.as_bytes()).await?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 201 "), "{}", answer.lines().next().unwrap_or_default());
    Ok(())
}

/// The id of an event that is never stored. Without one a node answers before it reads a body.
const EVENT_ID: &str = "00000000-0000-4000-8000-000000000001";

/// The header that proves the administrator.
fn credentials() -> String {
    format!("Authorization: {}\r\n", basic(ADMIN))
}
