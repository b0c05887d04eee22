//! Nodes with TLS in this process.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use headwater::cluster::Leadership;
use headwater::config::{Config, Invocation, TlsFiles};
use headwater::node::Node;
use tempfile::TempDir;

use super::pki::{self, Pki};

/// How long a cluster may take to form on a machine that builds something else meanwhile.
pub const FORMATION: Duration = Duration::from_secs(60);

/// A member list on free ports of loopback.
pub struct Places {
    pub raft: Vec<String>,
    pub http: Vec<String>,
}

impl Places {
    pub fn new(count: usize) -> Self {
        let listeners: Vec<TcpListener> = (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut raft: Vec<String> = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
        let http = raft.split_off(count);
        Self { raft, http }
    }

    pub fn members(&self) -> String {
        let entry = |(index, (raft, http)): (usize, (&String, &String))| format!("{}={raft}/{http}", index + 1);
        self.raft.iter().zip(&self.http).enumerate().map(entry).collect::<Vec<_>>().join(",")
    }

    pub fn config(&self, id: usize, directory: &TempDir, files: &TlsFiles) -> Config {
        let mut arguments = vec![
            "headwater".to_owned(),
            format!("--server-id={id}"),
            format!("--members={}", self.members()),
            format!("--data-dir={}", directory.path().display()),
        ];
        arguments.extend(pki::options(files));
        match headwater::config::resolve(arguments.into_iter().map(Into::into), []).unwrap() {
            Invocation::Run(config) => *config,
            other => panic!("{other:?}"),
        }
    }
}

/// A cluster whose nodes talk TLS with everybody.
pub struct TlsCluster {
    pub nodes: Vec<Node>,
    pub places: Places,
    _directories: Vec<TempDir>,
}

impl TlsCluster {
    /// Starts `count` nodes with certificates of `pki` and waits until they are ready.
    pub async fn start(pki: &Pki, count: usize) -> Self {
        let places = Places::new(count);
        let directories: Vec<TempDir> = (0..count).map(|_| TempDir::new().unwrap()).collect();
        let mut nodes = Vec::new();
        for (index, directory) in directories.iter().enumerate() {
            let files = pki.files(index as u16 + 1);
            nodes.push(Node::start(places.config(index + 1, directory, &files)).await.unwrap());
        }
        let cluster = Self { nodes, places, _directories: directories };
        cluster.wait_ready().await;
        cluster
    }

    async fn wait_ready(&self) {
        let started = Instant::now();
        let is_leading = |node: &Node| node.cluster().leadership() == Leadership::Local;
        while !(self.nodes.iter().all(|node| node.cluster().status().ready) && self.nodes.iter().any(is_leading)) {
            assert!(started.elapsed() < FORMATION, "no cluster after {FORMATION:?}");
            tokio::time::sleep(Duration::from_millis(20)).await; // polling interval
        }
    }

    /// Index of the node that leads.
    pub fn leader(&self) -> usize {
        self.nodes.iter().position(|node| node.cluster().leadership() == Leadership::Local).unwrap()
    }

    /// HTTPS address of a node that does not lead.
    pub fn follower_http(&self) -> &str {
        let leader = self.leader();
        &self.places.http[(0..self.nodes.len()).find(|index| *index != leader).unwrap()]
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}
