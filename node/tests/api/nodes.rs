//! Nodes in this process.

use std::ffi::OsString;
use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime};

use headwater::cluster::Leadership;
use headwater::config::{Config, Invocation};
use headwater::node::Node;
use headwater::tls::Authority;
use tempfile::TempDir;

use super::client::tls;

/// How long a cluster may take to form on a machine that builds something else meanwhile.
const FORMATION: Duration = Duration::from_secs(60);

/// Running nodes, each with a directory of its own.
pub struct Nodes {
    nodes: Vec<(Node, String)>,
    /// Of all that were started, in order of their ids: base and directory.
    places: Vec<(String, TempDir)>,
    members: String,
    options: Vec<String>,
}

/// Addresses on loopback that were free a moment ago.
fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

fn config(id: usize, members: &str, directory: &TempDir, options: &[String]) -> Config {
    let mut arguments: Vec<OsString> = vec![
        "headwater".into(),
        format!("--server-id={id}").into(),
        format!("--members={members}").into(),
        format!("--data-dir={}", directory.path().display()).into(),
    ];
    arguments.extend(options.iter().map(|option| option.replace("{id}", &id.to_string()).into()));
    match headwater::config::resolve(arguments, []).unwrap() {
        Invocation::Run(config) => *config,
        _ => unreachable!("no subcommand"),
    }
}

/// Starts a cluster and waits until one node leads and all serve reads.
pub async fn start(count: usize) -> Nodes {
    start_with(count, "http", &[]).await
}

/// The same with further options on every node; `{id}` in them stands for its id.
pub async fn start_with_options(count: usize, options: &[&str]) -> Nodes {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    start_with(count, "http", &options).await
}

/// Starts a single node whose clients talk TLS, and from now on [`super::client::send`] does, in this version of HTTP.
pub async fn start_with_tls(version: tls::Version) -> Nodes {
    let directory = TempDir::new().unwrap();
    let now = SystemTime::now();
    let authority = Authority::new(None, now..now + 2 * FORMATION).unwrap();
    let made = authority.issue("node", &["127.0.0.1".to_owned()], now..now + FORMATION).unwrap();
    let file = |flag: &str, name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
        format!("{flag}={}", directory.path().join(name).display())
    };
    let options = [file("--tls-cert-file", "node.crt", &made.0), file("--tls-key-file", "node.key", &made.1)];
    let nodes = start_with(1, "https", &options).await;
    let host = nodes.leader();
    tls::trust(host.strip_prefix("https://").unwrap(), authority.certificate_pem(), version);
    nodes
}

async fn start_with(count: usize, scheme: &str, options: &[String]) -> Nodes {
    let addresses = free_addresses(2 * count);
    let (raft, http) = addresses.split_at(count);
    let entry = |index: usize| format!("{}={}/{}", index + 1, raft[index], http[index]);
    let members = (0..count).map(entry).collect::<Vec<_>>().join(",");
    let place = |index: usize| (format!("{scheme}://{}", http[index]), TempDir::new().unwrap());
    let places = (0..count).map(place).collect();
    let mut nodes = Nodes { nodes: Vec::new(), places, members, options: options.to_vec() };
    for index in 0..count {
        nodes.start(index).await;
    }
    let started = Instant::now();
    while !nodes.are_ready() {
        assert!(started.elapsed() < FORMATION, "no cluster after {FORMATION:?}");
        tokio::time::sleep(Duration::from_millis(20)).await; // polling interval
    }
    nodes
}

impl Nodes {
    async fn start(&mut self, index: usize) {
        let (base, directory) = &self.places[index];
        let node = Node::start(config(index + 1, &self.members, directory, &self.options)).await.unwrap();
        self.nodes.push((node, base.clone()));
    }

    /// Stops all but the leader.
    pub async fn stop_followers(&mut self) {
        let leader = self.leader();
        let (leader, followers) = self.nodes.drain(..).partition(|(_, base)| *base == leader);
        self.nodes = leader;
        for (node, _) in followers {
            node.stop().await;
        }
    }

    /// Stops whichever node was not stopped yet and starts it again; the others stay away.
    pub async fn restart_last(&mut self) {
        let (node, base) = self.nodes.pop().unwrap();
        node.stop().await;
        let index = self.places.iter().position(|(known, _)| *known == base).unwrap();
        self.start(index).await;
    }

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

    /// Bases of all nodes.
    pub fn all(&self) -> Vec<String> {
        self.nodes.iter().map(|(_, base)| base.clone()).collect()
    }

    /// Stops all of them.
    pub async fn stop(self) {
        for (node, _) in self.nodes {
            node.stop().await;
        }
    }
}
