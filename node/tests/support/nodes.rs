//! Nodes inside the test program.

use std::net::TcpListener;

use headwater::config::{Config, Invocation};
use headwater::node::{Node, OPEN_FILES};
use tempfile::TempDir;

use super::pki::Pki;
use super::until;

/// Addresses on loopback that were free a moment ago.
pub(crate) fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

/// The addresses of the servers of a cluster, in the order of their ids, which count from 1.
pub(crate) struct Places {
    pub(crate) raft: Vec<String>,
    pub(crate) http: Vec<String>,
}

impl Places {
    /// Places on free ports of loopback.
    pub(crate) fn new(count: usize) -> Self {
        let mut raft = free_addresses(2 * count);
        let http = raft.split_off(count);
        Self { raft, http }
    }

    /// The value of `--members`.
    pub(crate) fn members(&self) -> String {
        let entry = |(index, (raft, http)): (usize, (&String, &String))| format!("{}={raft}/{http}", index + 1);
        self.raft.iter().zip(&self.http).enumerate().map(entry).collect::<Vec<_>>().join(",")
    }
}

/// The configuration that these command line options make.
pub(crate) fn configured(options: &[String]) -> Config {
    let arguments = std::iter::once("headwater".into()).chain(options.iter().map(Into::into));
    match headwater::config::resolve(arguments, []).unwrap() {
        Invocation::Run(config) => *config,
        _ => unreachable!("no subcommand"),
    }
}

/// The nodes of a cluster, each with a directory of its own. A node's index is its server id less
/// 1.
pub(crate) struct Nodes {
    /// `None` while a node does not run.
    nodes: Vec<Option<Node>>,
    pub(crate) places: Places,
    directories: Vec<TempDir>,
    options: Vec<String>,
}

impl Nodes {
    /// Places and directories; no node runs. `{id}` in the options stands for a node's server id.
    pub(crate) fn new(count: usize, options: &[impl AsRef<str>]) -> Self {
        Self {
            nodes: (0..count).map(|_| None).collect(),
            places: Places::new(count),
            directories: (0..count).map(|_| TempDir::new().unwrap()).collect(),
            options: options.iter().map(|option| option.as_ref().to_owned()).collect(),
        }
    }

    /// Starts a cluster and waits until one node leads and all serve reads.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with_options(count, &[] as &[&str]).await
    }

    /// Starts a cluster with further options on every node, and waits as [`Self::start`] does.
    pub(crate) async fn start_with_options(count: usize, options: &[impl AsRef<str>]) -> Self {
        let mut nodes = Self::new(count, options);
        for index in 0..count {
            nodes.start_node(index).await;
        }
        nodes.wait_until_ready().await;
        nodes
    }

    /// Starts a cluster that talks TLS with clients and between nodes, and waits as [`Self::start`]
    /// does.
    pub(crate) async fn start_with_tls(count: usize, pki: &Pki) -> Self {
        for server in 1..=count {
            pki.issue(server as u16);
        }
        Self::start_with_options(count, &pki.options()).await
    }

    /// Starts a node that does not run, on the data that it has.
    pub(crate) async fn start_node(&mut self, index: usize) {
        self.start_node_with_options(index, &[]).await;
    }

    /// Starts a node with further options.
    pub(crate) async fn start_node_with_options(&mut self, index: usize, further: &[String]) {
        let members = format!("--members={}", self.places.members());
        self.start_node_listing(index, &members, further).await;
    }

    /// Starts a node with another list of members, and further options.
    pub(crate) async fn start_node_listing(&mut self, index: usize, members: &str, further: &[String]) {
        let options = self.options_of(index, members, further);
        self.nodes[index] = Some(Node::start(configured(&options), OPEN_FILES).await.unwrap());
    }

    /// Why a node does not start with further options.
    pub(crate) async fn start_is_refused(&self, index: usize, further: &[String]) -> String {
        let members = format!("--members={}", self.places.members());
        let options = self.options_of(index, &members, further);
        match Node::start(configured(&options), OPEN_FILES).await {
            Ok(_) => panic!("node {index} starts"),
            Err(error) => format!("{error:#}"),
        }
    }

    fn options_of(&self, index: usize, members: &str, further: &[String]) -> Vec<String> {
        assert!(self.nodes[index].is_none(), "node {index} runs");
        let id = (index + 1).to_string();
        let mut options = vec![
            format!("--server-id={id}"),
            members.to_owned(),
            format!("--data-dir={}", self.directories[index].path().display()),
        ];
        options.extend(self.options.iter().chain(further).map(|option| option.replace("{id}", &id)));
        // Tests look at nodes that are not ready, too.
        if !options.iter().any(|option| option.starts_with("--start-wait-ms")) {
            options.push("--start-wait-ms=0".to_owned());
        }
        options
    }

    /// Stops a node in order.
    pub(crate) async fn stop_node(&mut self, index: usize) {
        self.nodes[index].take().unwrap().stop().await;
    }

    /// Stops all nodes in order.
    pub(crate) async fn stop(self) {
        for node in self.nodes.into_iter().flatten() {
            node.stop().await;
        }
    }

    /// Waits until every running node serves reads and one of them leads.
    pub(crate) async fn wait_until_ready(&self) {
        until("every node is ready and one leads", || {
            self.running().all(|(_, node)| node.is_ready()) && self.running().any(|(_, node)| node.leads())
        })
        .await;
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(index, node)| Some((index, node.as_ref()?)))
    }

    /// A running node.
    pub(crate) fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().unwrap()
    }

    /// Index of the node that leads.
    pub(crate) fn leader_index(&self) -> usize {
        self.running().find(|(_, node)| node.leads()).unwrap().0
    }

    /// Index of a running node that does not lead.
    pub(crate) fn follower_index(&self) -> usize {
        self.running().find(|(_, node)| !node.leads()).unwrap().0
    }

    /// `http://host:port` of a node, or `https`.
    pub(crate) fn base(&self, index: usize) -> String {
        let is_secure = self.options.iter().any(|option| option.starts_with("--tls-cert-file="));
        format!("{}://{}", if is_secure { "https" } else { "http" }, self.places.http[index])
    }

    /// Base of the node that leads.
    pub(crate) fn leader(&self) -> String {
        self.base(self.leader_index())
    }

    /// Base of a running node that does not lead.
    pub(crate) fn follower(&self) -> String {
        self.base(self.follower_index())
    }

    /// Bases of all nodes, in the order of their server ids.
    pub(crate) fn all(&self) -> Vec<String> {
        (0..self.nodes.len()).map(|index| self.base(index)).collect()
    }
}
