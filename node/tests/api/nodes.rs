//! Nodes in this process.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use headwater::cluster::Leadership;
use headwater::config::{Config, Invocation};
use headwater::node::Node;
use tempfile::TempDir;

/// How long a cluster may take to form on a machine that builds something else meanwhile.
const FORMATION: Duration = Duration::from_secs(60);

/// Running nodes, each with a directory of its own.
pub struct Nodes {
    nodes: Vec<(Node, String)>,
    _directories: Vec<TempDir>,
}

/// Addresses on loopback that were free a moment ago.
fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

fn config(id: usize, members: &str, directory: &TempDir) -> Config {
    let arguments = [
        "headwater".into(),
        format!("--server-id={id}").into(),
        format!("--members={members}").into(),
        format!("--data-dir={}", directory.path().display()).into(),
    ];
    match headwater::config::resolve(arguments, []).unwrap() {
        Invocation::Run(config) => *config,
        _ => unreachable!("no subcommand"),
    }
}

/// Starts a cluster and waits until one node leads and all serve reads.
pub async fn start(count: usize) -> Nodes {
    let addresses = free_addresses(2 * count);
    let (raft, http) = addresses.split_at(count);
    let entry = |index: usize| format!("{}={}/{}", index + 1, raft[index], http[index]);
    let members = (0..count).map(entry).collect::<Vec<_>>().join(",");
    let directories: Vec<TempDir> = (0..count).map(|_| TempDir::new().unwrap()).collect();
    let mut nodes = Vec::new();
    for index in 0..count {
        let node = Node::start(config(index + 1, &members, &directories[index])).await.unwrap();
        nodes.push((node, format!("http://{}", http[index])));
    }
    let nodes = Nodes { nodes, _directories: directories };
    let started = Instant::now();
    while !nodes.are_ready() {
        assert!(started.elapsed() < FORMATION, "no cluster after {FORMATION:?}");
        tokio::time::sleep(Duration::from_millis(20)).await; // polling interval
    }
    nodes
}

impl Nodes {
    fn are_ready(&self) -> bool {
        self.nodes.iter().all(|(node, _)| node.cluster().status().ready)
            && self.nodes.iter().any(|(node, _)| node.cluster().leadership() == Leadership::Local)
    }

    fn find(&self, is_leader: bool) -> String {
        let is_wanted = |node: &Node| (node.cluster().leadership() == Leadership::Local) == is_leader;
        let found = self.nodes.iter().find(|(node, _)| is_wanted(node));
        found.unwrap().1.clone()
    }

    /// Base of the node that leads.
    pub fn leader(&self) -> String {
        self.find(true)
    }

    /// Base of a node that does not lead.
    pub fn follower(&self) -> String {
        self.find(false)
    }

    /// Stops all of them.
    pub async fn stop(self) {
        for (node, _) in self.nodes {
            node.stop().await;
        }
    }
}
