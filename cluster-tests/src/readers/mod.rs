//! Clients beside the plain load that look at nodes while faults happen: each kind is a task per
//! node or session, which goes on asking whatever becomes of its node.

mod access;
mod bulk;
mod consumers;
mod heads;
mod pages;
mod polls;
mod prefixes;
mod readiness;
mod removals;
mod sessions;
mod twins;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::cluster::{Cluster, Liveness};
use crate::history::Recorder;
use crate::observations::Observer;
use crate::workload::own_stream;

/// Between two requests of one reader, for each node of the cluster: often enough to meet every
/// fault, seldom enough for debug builds on two shared cores. There are as many readers of a kind
/// as nodes, so a larger cluster is asked as often as a small one.
const PERIOD_PER_NODE: Duration = Duration::from_millis(35);

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Load {
    /// Appends with exact versions to streams of one writer, with any version to hot streams,
    /// repetitions and stale versions: [`crate::workload`].
    Appends,
    /// Writes of many small events.
    Bulk,
    /// Writes followed by reads that promise to see them, and reads by the leader on every node.
    Sessions,
    /// The same write through two nodes at once, and again much later.
    Twins,
    /// The newest event of each node, again and again.
    Heads,
    /// The whole log of each node, as it grows.
    Prefixes,
    /// Pages of streams that never change.
    Pages,
    /// Long polls of hot streams.
    Polls,
    /// Whether nodes say that they are ready, and how far they are.
    Readiness,
    /// Rights that change, and what a user may do after each change.
    Access,
    /// Streams that are truncated, deleted and written again.
    Removals,
    /// Groups of competing consumers.
    Consumers,
}

/// All kinds with their names on the command line: with [`Readers::start`] the one place where they
/// are registered.
const KINDS: [(Load, &str); 12] = [
    (Load::Appends, "appends"),
    (Load::Bulk, "bulk"),
    (Load::Sessions, "sessions"),
    (Load::Twins, "twins"),
    (Load::Heads, "heads"),
    (Load::Prefixes, "prefixes"),
    (Load::Pages, "pages"),
    (Load::Polls, "polls"),
    (Load::Readiness, "readiness"),
    (Load::Access, "access"),
    (Load::Removals, "removals"),
    (Load::Consumers, "consumers"),
];

impl Load {
    /// All kinds, the default.
    pub const ALL: [Self; KINDS.len()] = {
        let mut all = [Self::Appends; KINDS.len()];
        let mut place = 0;
        while place < all.len() {
            all[place] = KINDS[place].0;
            place += 1;
        }
        all
    };

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        KINDS[self as usize].1
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names: Vec<&str> = Self::ALL.iter().map(|load| load.name()).collect();
        let found = Self::ALL.into_iter().find(|load| load.name() == name);
        found.ok_or_else(|| format!("there is no workload {name}; there are {}", names.join(", ")))
    }
}

/// What a task knows.
#[derive(Clone)]
struct Reader {
    /// The node it is for.
    node: u16,
    /// All nodes and their addresses.
    nodes: Vec<(u16, String)>,
    liveness: Liveness,
    client: Client,
    recorder: Recorder,
    observer: Observer,
    stopping: Arc<AtomicBool>,
}

impl Reader {
    fn base(&self) -> &str {
        self.base_of(self.node)
    }

    fn base_of(&self, node: u16) -> &str {
        self.nodes.iter().find(|(id, _)| *id == node).map_or("", |(_, base)| base)
    }

    /// Between two requests.
    fn period(&self) -> Duration {
        PERIOD_PER_NODE * self.nodes.len() as u32
    }

    /// Waits for the next turn; false when the run is over.
    async fn goes_on(&self) -> bool {
        tokio::time::sleep(self.period()).await;
        !self.stopping.load(Ordering::SeqCst)
    }

    /// The number of the newest event of a stream, by a read with these headers. `Err` if there was
    /// no answer with 200 or 404.
    async fn newest(&self, node: u16, stream: &str, headers: &[(&str, &str)]) -> anyhow::Result<Option<u64>> {
        let url = format!("{}/streams/{stream}/head/backward/1", self.base_of(node));
        let mut all = vec![("Accept", crate::client::ATOM_JSON)];
        all.extend_from_slice(headers);
        let response = self.client.get(&url, &all).await?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            status => anyhow::bail!("{url}: {status}"),
        }
        let page: Value = response.json().await?;
        let newest = page.get("entries").and_then(Value::as_array).and_then(|entries| entries.first());
        Ok(newest.and_then(number_of))
    }
}

/// `number@stream` is the title of an entry.
fn number_of(entry: &Value) -> Option<u64> {
    entry.get("title")?.as_str()?.split_once('@')?.0.parse().ok()
}

/// The running tasks. Stop them with [`Self::stop`].
#[derive(Debug)]
pub struct Readers {
    observer: Observer,
    stopping: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Readers {
    /// Starts readers of these kinds; the plain load is not among them. `bulk` is the number of
    /// events in the largest write of [`Load::Bulk`].
    pub fn start(cluster: &Cluster, recorder: &Recorder, loads: &[Load], bulk: usize) -> anyhow::Result<Self> {
        let (observer, stopping) = (Observer::default(), Arc::<AtomicBool>::default());
        let mut tasks = JoinSet::new();
        for (node, _) in cluster.bases() {
            for load in loads {
                let reader = Reader {
                    node,
                    nodes: cluster.bases(),
                    liveness: cluster.liveness(),
                    // One client each, so that a hanging connection does not delay another reader.
                    client: cluster.new_client()?,
                    recorder: recorder.clone(),
                    observer: observer.clone(),
                    stopping: Arc::clone(&stopping),
                };
                match load {
                    Load::Appends => {}
                    Load::Bulk => drop(tasks.spawn(bulk::run(reader, bulk))),
                    Load::Sessions => sessions::start(&mut tasks, &reader),
                    Load::Twins => drop(tasks.spawn(twins::run(reader))),
                    Load::Heads => drop(tasks.spawn(heads::run(reader))),
                    Load::Prefixes => drop(tasks.spawn(prefixes::run(reader))),
                    Load::Pages => drop(tasks.spawn(pages::run(reader))),
                    Load::Polls => drop(tasks.spawn(polls::run(reader))),
                    Load::Readiness => drop(tasks.spawn(readiness::run(reader))),
                    Load::Access => drop(tasks.spawn(access::run(reader))),
                    Load::Removals => drop(tasks.spawn(removals::run(reader))),
                    Load::Consumers => drop(tasks.spawn(consumers::run(reader))),
                }
            }
        }
        Ok(Self { observer, stopping, tasks })
    }

    /// What was seen so far.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Lets every reader finish what it is at, and ends those that have not after `limit`.
    pub async fn stop(mut self, limit: Duration) -> anyhow::Result<Observer> {
        self.stopping.store(true, Ordering::SeqCst);
        let deadline = tokio::time::Instant::now() + limit;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
            ended?;
        }
        Ok(self.observer)
    }
}

/// Streams of the plain load: those of one writer, and a hot one.
fn load_streams(nodes: &[(u16, String)]) -> Vec<String> {
    let own = nodes.iter().map(|(node, _)| own_stream(*node, 0));
    own.chain([crate::workload::shared_stream(0)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_has_a_name_of_its_own() {
        for load in Load::ALL {
            assert_eq!(KINDS[load as usize].0, load);
            assert_eq!(load.name().parse(), Ok(load));
        }
        assert!("other".parse::<Load>().is_err());
    }
}
