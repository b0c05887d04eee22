//! Consensus as a whole: three nodes in this process with their real log, state and gRPC on
//! loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use headwater_proto::stored;
use prost::Message;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, LiveOptions, MemberConfig};
use crate::event::{Ticks, WriteOutcome};
use crate::metrics::Metrics;
use crate::node::OPEN_FILES;
use crate::node::support::nodes::free_addresses;
use crate::node::support::{PATIENCE, until};
use crate::raft::{self, EntryResult, Founding, Parts, Proposal, Seen};
use crate::trace::Traces;
use crate::transport::{Dialer, LocalIdentity, Member, NodeId, Resolve};

const CLUSTER_ID: [u8; 16] = [7; 16];

/// A rate at which the snapshots of these tests are sent at once.
const FAST: u64 = 1 << 30;

struct Node {
    parts: Parts,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl Node {
    async fn start(id: NodeId, address: SocketAddr, data_dir: &Path, snapshot_bytes_per_second: u64) -> Self {
        let config = config(data_dir);
        let options = LiveOptions { snapshot_bytes_per_second, ..LiveOptions::clone(&config.live.now()) };
        config.live.replace(options);
        let metrics = Metrics::new();
        let identity = Arc::new(LocalIdentity::new(id, Some(CLUSTER_ID)));
        let resolve: Resolve = Arc::new(|_, member: &Member| member.clone());
        let parts = raft::build(
            &config,
            identity.clone(),
            Dialer::default(),
            resolve,
            metrics.clone(),
            OPEN_FILES,
            Founding::Complete,
        );
        let parts = parts.await.unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let stop = CancellationToken::new();
        let grpc = tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .add_service(parts.service(identity, Traces::default()));
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            grpc.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped).await.unwrap();
        });
        parts.run(&config, &stop).await;
        Self { parts, metrics, stop, server }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.parts.stop().await;
        self.server.await.unwrap();
    }

    fn seen(&self) -> Seen {
        self.parts.consensus().seen()
    }

    fn leader(&self) -> Option<NodeId> {
        self.seen().leader
    }

    fn has_applied(&self, index: u64) -> bool {
        self.seen().applied_entries > index
    }
}

struct TestCluster {
    directories: BTreeMap<NodeId, TempDir>,
    members: BTreeMap<NodeId, Member>,
    nodes: BTreeMap<NodeId, Node>,
    snapshot_bytes_per_second: u64,
}

impl TestCluster {
    async fn start() -> Self {
        Self::start_sending_snapshots_at(FAST).await
    }

    async fn start_sending_snapshots_at(snapshot_bytes_per_second: u64) -> Self {
        let (directories, members, nodes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut cluster = Self { directories, members, nodes, snapshot_bytes_per_second };
        for server in 1..=3 {
            let id = NodeId::generate(server);
            let raft_address = free_addresses(1).remove(0);
            cluster.members.insert(id, Member::at(raft_address, ""));
            cluster.directories.insert(id, tempfile::tempdir().unwrap());
            cluster.start_node(id).await;
        }
        let founder = cluster.ids()[0];
        cluster.nodes[&founder].parts.consensus().initialize(cluster.members.clone()).await.unwrap();
        cluster
    }

    fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    async fn start_node(&mut self, id: NodeId) {
        let address = self.members[&id].raft_address.parse().unwrap();
        let node = Node::start(id, address, self.directories[&id].path(), self.snapshot_bytes_per_second).await;
        self.nodes.insert(id, node);
    }

    async fn stop_node(&mut self, id: NodeId) {
        self.nodes.remove(&id).unwrap().stop().await;
    }

    /// The end of every test: RocksDB does not bear it when the process ends while its threads
    /// work.
    async fn stop(mut self) {
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.stop().await;
        }
    }

    /// The leader that every running node agrees on.
    async fn leader(&self) -> NodeId {
        let agreed = || {
            let mut leaders = self.nodes.values().map(Node::leader);
            let first = leaders.next().flatten()?;
            (self.nodes.contains_key(&first) && leaders.all(|leader| leader == Some(first))).then_some(first)
        };
        until("a leader", || agreed().is_some()).await;
        agreed().unwrap()
    }

    /// Appends one event of `bytes` through the leader and returns its log index. A leader that was
    /// not yet confirmed by a majority answers that it surely did not append; then it is asked
    /// again.
    async fn append(&self, number: u64, bytes: usize) -> u64 {
        self.append_at(number, bytes, |_, _| Ticks(number)).await
    }

    /// The same with the time that the leader stamps.
    async fn append_at(&self, number: u64, bytes: usize, stamp: impl Fn(NodeId, &Node) -> Ticks) -> u64 {
        let appended = async {
            loop {
                let leader = self.leader().await;
                let node = &self.nodes[&leader];
                let consensus = node.parts.consensus();
                let results = consensus.propose(vec![proposal(number, bytes, stamp(leader, node))]);
                match results.collect::<Vec<_>>().await.pop() {
                    Some(EntryResult::Applied { index, outcomes }) => break (index, outcomes),
                    Some(EntryResult::NotLeader) => tokio::time::sleep(Duration::from_millis(10)).await,
                    unknown => panic!("{unknown:?}"),
                }
            }
        };
        let (index, outcomes) = tokio::time::timeout(PATIENCE, appended).await.unwrap();
        assert!(matches!(outcomes[..], [WriteOutcome::Appended { .. }]), "{outcomes:?}");
        index
    }

    async fn applied_everywhere(&self, index: u64) {
        until("every node has applied the last write", || self.nodes.values().all(|node| node.has_applied(index)))
            .await;
    }

    async fn events(&self, id: NodeId) -> u64 {
        self.nodes[&id].parts.store.read(|view| view.next_position()).await.unwrap()
    }
}

/// Bytes that do not get fewer when the state is compressed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn proposal(number: u64, bytes: usize, time: Ticks) -> Proposal {
    let event = stored::NewEvent {
        event_id: u128::from(number + 1).to_be_bytes().to_vec().into(),
        event_type: "counted".to_owned(),
        is_json: false,
        data: noise(number, bytes).into(),
        metadata: Vec::new().into(),
    };
    let append = stored::Append {
        stream: "numbers".to_owned(),
        expected_version: -2,
        events: vec![event],
        ..stored::Append::default()
    };
    let command = stored::Command::of_streams(stored::command::Kind::Append(append));
    Proposal { time, commands: [command.encode_to_vec().into()].into(), trace: None }
}

/// Small limits, and no log kept below a snapshot.
fn config(data_dir: &Path) -> Config {
    Config {
        // The members' addresses are those of the membership.
        members: (1..=3)
            .map(|id| MemberConfig { id, raft_address: String::new(), http_address: String::new() })
            .collect(),
        // On a machine that builds something else meanwhile the defaults would cost elections.
        heartbeat_interval: Duration::from_millis(150),
        election_timeout_min: Duration::from_millis(600),
        election_timeout_max: Duration::from_millis(1200),
        snapshot_log_bytes: 2 << 20,
        keep_log_bytes: 0,
        block_cache_bytes: 1 << 20,
        ..Config::single_node(data_dir).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_reach_all_nodes_and_survive_the_restart_of_a_follower_and_of_the_leader() {
    let mut cluster = TestCluster::start().await;
    let index = cluster.append(0, 10).await;
    cluster.applied_everywhere(index).await;

    let leader = cluster.leader().await;
    let follower = *cluster.members.keys().find(|id| **id != leader).unwrap();
    cluster.stop_node(follower).await;
    cluster.append(1, 10).await;
    cluster.start_node(follower).await;
    let index = cluster.append(2, 10).await;
    cluster.applied_everywhere(index).await;

    let leader = cluster.leader().await;
    cluster.stop_node(leader).await;
    let survivor = *cluster.nodes.keys().next().unwrap();
    until("another leader", || cluster.nodes[&survivor].leader().is_some_and(|id| id != leader)).await;
    cluster.append(3, 10).await;
    cluster.start_node(leader).await;
    let index = cluster.append(4, 10).await;
    cluster.applied_everywhere(index).await;
    for id in cluster.ids() {
        assert_eq!(cluster.events(id).await, 5, "{id}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_missing_log_was_purged_gets_a_snapshot() {
    let mut cluster = TestCluster::start().await;
    let leader = cluster.leader().await;
    let absent = *cluster.members.keys().find(|id| **id != leader).unwrap();
    cluster.stop_node(absent).await;
    for number in 0..5 {
        cluster.append(number, 1 << 20).await;
    }
    until("the leader has purged its log", || cluster.nodes[&leader].seen().purged_index > Some(2)).await;
    cluster.start_node(absent).await;
    let index = cluster.append(5, 10).await;
    cluster.applied_everywhere(index).await;
    assert_eq!(cluster.events(absent).await, 6);
    assert_eq!(cluster.nodes[&absent].metrics.snapshots_installed.get(), 1);

    // What was installed is there again after a restart.
    cluster.stop_node(absent).await;
    cluster.start_node(absent).await;
    let index = cluster.append(6, 10).await;
    cluster.applied_everywhere(index).await;
    assert_eq!(cluster.events(absent).await, 7);
    cluster.stop().await;
}

/// More is written while the snapshot is sent than makes another one, and no log is kept below a
/// snapshot (see `config`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_snapshot_is_enough_however_much_is_written_while_it_is_sent() {
    const EVENT_BYTES: usize = 128 << 10;
    let mut cluster = TestCluster::start_sending_snapshots_at(1 << 20).await;
    let leader = cluster.leader().await;
    let absent = *cluster.members.keys().find(|id| **id != leader).unwrap();
    cluster.stop_node(absent).await;
    let mut numbers = 0..;
    let mut next = || numbers.next().unwrap();
    for _ in 0..40 {
        cluster.append(next(), EVENT_BYTES).await;
    }
    until("the leader has purged its log", || cluster.nodes[&leader].seen().purged_index > Some(2)).await;
    cluster.start_node(absent).await;

    let (leading, absent) = (&cluster.nodes[&leader], &cluster.nodes[&absent]);
    let deadline = tokio::time::Instant::now() + 2 * PATIENCE;
    let mut snapshots = std::collections::BTreeSet::new();
    let mut written = 0;
    while absent.metrics.snapshots_installed.get() == 0 || !absent.has_applied(written) {
        assert!(tokio::time::Instant::now() < deadline, "it does not catch up");
        snapshots.extend(leading.seen().snapshot_index);
        written = cluster.append(next(), EVENT_BYTES).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(snapshots.len() > 1, "it was not sent for long enough: {snapshots:?}");
    assert_eq!(absent.metrics.snapshots_installed.get(), 1);
    // The log that was kept for it goes.
    let newest = leading.seen().snapshot_index;
    until("the log is purged again", || leading.seen().purged_index >= newest.map(|index| index - 1)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_can_be_handed_over() {
    let cluster = TestCluster::start().await;
    let index = cluster.append(0, 10).await;
    cluster.applied_everywhere(index).await;
    let leader = cluster.leader().await;
    let successor = *cluster.members.keys().find(|id| **id != leader).unwrap();
    let leads = |id: NodeId| cluster.nodes[&id].seen().leads_majority(PATIENCE);
    until("the leader hears a majority", || leads(leader)).await;
    cluster.nodes[&leader].parts.consensus().transfer_leadership(successor).await.unwrap();
    until("the successor leads", || cluster.nodes.values().all(|node| node.leader() == Some(successor))).await;
    until("the successor hears a majority", || leads(successor)).await;
    assert!(cluster.ids().into_iter().all(|id| leads(id) == (id == successor)), "one leads, and no deposed one");
    let index = cluster.append(1, 10).await;
    cluster.applied_everywhere(index).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_never_go_back_in_the_log_whatever_the_clocks_of_the_leaders_say() {
    const ROUNDS: u64 = 7;
    let mut cluster = TestCluster::start().await;
    let ids = cluster.ids();
    // One clock is right, one an hour behind, one an hour ahead; each moves on with every write.
    let clocks: BTreeMap<NodeId, u64> = ids.iter().copied().zip([36_000, 32_400, 39_600]).collect();
    let mut number = 0;
    for round in 0..ROUNDS {
        let mut index = 0;
        for _ in 0..3 {
            let stamp = |leader, node: &Node| node.parts.stamps.next(Ticks(clocks[&leader] + number));
            index = cluster.append_at(number, 10, stamp).await;
            number += 1;
        }
        cluster.applied_everywhere(index).await;
        let leader = cluster.leader().await;
        if round == ROUNDS / 2 {
            // Whoever starts again knows what it had.
            let other = *ids.iter().find(|id| **id != leader).unwrap();
            let newest = cluster.nodes[&other].parts.stamps.newest();
            cluster.stop_node(other).await;
            cluster.start_node(other).await;
            assert_eq!(cluster.nodes[&other].parts.stamps.newest(), newest);
        }
        let at = ids.iter().position(|id| *id == leader).unwrap();
        let successor = ids[(at + 1) % ids.len()];
        cluster.nodes[&leader].parts.consensus().transfer_leadership(successor).await.unwrap();
        until("another node leads", || cluster.nodes.values().all(|node| node.leader().is_some_and(|id| id != leader)))
            .await;
    }
    for node in cluster.nodes.values() {
        let events = node.parts.store.read(|view| view.log_forward(0, usize::MAX, usize::MAX)).await.unwrap();
        let times: Vec<u64> = events.iter().map(|event| event.time.0).collect();
        assert_eq!(times.len() as u64, 3 * ROUNDS);
        assert!(times.is_sorted(), "{times:?}");
        assert!(times.last() > Some(&39_600), "the clock that is ahead has led: {times:?}");
        assert_eq!(node.parts.stamps.newest().0, times[times.len() - 1]);
    }
    cluster.stop().await;
}
