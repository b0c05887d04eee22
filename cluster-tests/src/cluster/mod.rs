//! A cluster of real nodes on loopback, in a directory of its own.

mod lifecycle;
mod liveness;
mod node;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

pub use self::liveness::Liveness;
use self::node::{Node, member_list};
use crate::certificates::Certificates;
use crate::check::{self, secrets};
use crate::client::{ADMIN, Client, OPERATOR};
use crate::clock::Clocks;
use crate::container::Project;
use crate::links::{Filters, Links, Ruler};
use crate::namespaces::Group;
use crate::ports::ReservedPort;
use crate::process::headwater_binary;
use crate::wait;

/// A node that is not ready and takes no writes by then counts as hung.
pub const READY_LIMIT: Duration = Duration::from_secs(30);

/// An ordered shutdown transfers leadership, flushes and closes; longer is a hang.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

/// The options of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Options given to every node, besides id, members and data directory.
    pub extra: Vec<String>,
    /// Data directories by server id, instead of one below the cluster's own directory.
    pub data_dirs: Vec<(u16, PathBuf)>,
    /// TLS with clients and between nodes.
    pub tls: bool,
    /// The program of its nodes, instead of the result of [`headwater_binary`].
    pub binary: Option<PathBuf>,
    /// The nodes reach each other through [`Links`] only, whose jitter has this seed.
    pub links: Option<u64>,
    /// Each node has a network namespace; they were made before, and this process runs beside their
    /// bridge. There are no proxies then.
    pub namespaces: Option<Group>,
    /// The nodes have wall clocks of their own, which can be moved ([`Clocks`]).
    pub clocks: bool,
    /// Variables of the environment of every node.
    pub environment: Vec<(String, String)>,
}

/// The nodes, their files and their processes. Server ids count from 1.
#[derive(Debug)]
pub struct Cluster {
    /// `Some` until dropped; kept on disk unless the test has passed.
    root: Option<tempfile::TempDir>,
    /// Whether the files are no longer needed.
    passed: bool,
    binary: PathBuf,
    extra: Vec<String>,
    environment: Vec<(String, String)>,
    nodes: Vec<Node>,
    /// Logs of nodes that are no longer part of it.
    retired_logs: Vec<PathBuf>,
    liveness: Liveness,
    client: Client,
    /// With TLS.
    certificates: Option<Certificates>,
    /// Of the links between the nodes, if it was asked for.
    ruler: Option<Ruler>,
    /// Of their namespaces, if they have any.
    namespaces: Option<Group>,
    /// Of the nodes, if it was asked for.
    clocks: Option<Clocks>,
}

impl Cluster {
    /// Reserves ports and directories; starts nothing.
    pub fn new(size: u16, options: Options) -> anyhow::Result<Self> {
        let binary = options.binary.map_or_else(headwater_binary, Ok)?;
        let root = tempfile::Builder::new().prefix("headwater-cluster-").tempdir().context("no temporary directory")?;
        let ruler = match (&options.namespaces, options.links) {
            (Some(_), _) => Some(Ruler::Filters(Filters::default())),
            (None, Some(seed)) => Some(Ruler::Proxies(Links::new(seed)?)),
            (None, None) => None,
        };
        let clocks = options.clocks.then(|| Clocks::new(&root.path().join("clocks"))).transpose()?;
        let mut nodes = Vec::new();
        for id in 1..=size {
            let given = options.data_dirs.iter().find(|(node, _)| *node == id).map(|(_, path)| path.clone());
            let data_dir = given.unwrap_or_else(|| root.path().join(format!("data-{id}")));
            nodes.push(Node::new(id, data_dir, ruler.as_ref(), options.namespaces.as_ref())?);
        }
        let liveness = Liveness::new(nodes.len());
        let certificates =
            options.tls.then(|| Certificates::create(&binary, root.path(), &member_list(&nodes))).transpose()?;
        let client = Client::trusting(certificates.as_ref().map_or(&[], Certificates::authorities))?;
        Ok(Self {
            certificates,
            ruler,
            namespaces: options.namespaces,
            clocks,
            root: Some(root),
            passed: false,
            binary,
            extra: options.extra,
            environment: options.environment,
            nodes,
            retired_logs: Vec::new(),
            liveness,
            client,
        })
    }

    /// The nodes of a project of docker compose, which run. What they are told when they start is
    /// the matter of that project.
    pub fn of_containers() -> anyhow::Result<Self> {
        let filters = Filters::default();
        let mut nodes = Vec::new();
        for (id, container) in (1..).zip(Project::from_environment()?.nodes()?) {
            filters.put(id, container.place()?)?;
            nodes.push(Node::contained(id, container)?);
        }
        let mut cluster = Self::new(0, Options::default())?;
        cluster.ruler = Some(Ruler::Filters(filters));
        cluster.liveness = Liveness::new(nodes.len());
        cluster.nodes = nodes;
        Ok(cluster)
    }

    /// Starts all nodes of a new cluster and waits until all are ready.
    pub async fn started(size: u16, options: Options) -> anyhow::Result<Self> {
        let mut cluster = Self::new(size, options)?;
        cluster.start_all()?;
        cluster.wait_all_ready().await?;
        Ok(cluster)
    }

    /// Server ids.
    pub fn ids(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// The client for requests of the harness.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A client with connections of its own.
    pub fn new_client(&self) -> anyhow::Result<Client> {
        Client::trusting(self.certificates.as_ref().map_or(&[], Certificates::authorities))
    }

    /// What rules the links between the nodes, for a cluster that has that.
    pub fn ruler(&self) -> anyhow::Result<&Ruler> {
        self.ruler.as_ref().context("nothing rules the links of this cluster")
    }

    /// The same if the links are proxies.
    pub fn links(&self) -> anyhow::Result<&Links> {
        self.ruler()?.proxies()
    }

    /// The clocks of the nodes, for a cluster that has them.
    pub fn clocks(&self) -> anyhow::Result<&Clocks> {
        self.clocks.as_ref().context("this cluster has no clocks of its own")
    }

    /// The certificates of the nodes, for a cluster with TLS.
    pub fn certificates(&self) -> anyhow::Result<&Certificates> {
        self.certificates.as_ref().context("this cluster has no TLS")
    }

    /// The nodes that clients may use.
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// `http://host:port` of a node, `https` with TLS.
    pub fn base(&self, id: u16) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.node(id).http_address())
    }

    /// Server ids and addresses of all nodes.
    pub fn bases(&self) -> Vec<(u16, String)> {
        self.nodes.iter().map(|node| (node.id, self.base(node.id))).collect()
    }

    /// Root of a node's files.
    pub fn data_dir(&self, id: u16) -> &Path {
        &self.node(id).data_dir
    }

    /// Directory of this cluster's own files.
    pub fn directory(&self) -> &Path {
        self.root.as_ref().map_or(Path::new("."), |root| root.path())
    }

    /// The list given to every node as `--members`.
    pub fn members(&self) -> String {
        member_list(&self.nodes)
    }

    /// Gives a stopped node another address for the others, from its next start on. Returns the old
    /// one, which stays reserved as long as the value lives.
    pub fn move_node(&mut self, id: u16) -> anyhow::Result<ReservedPort> {
        let node = self.node_mut(id);
        anyhow::ensure!(node.process.is_none(), "node {id} still runs");
        anyhow::ensure!(node.door.is_none(), "the door of node {id} stays where it is");
        Ok(std::mem::replace(&mut node.raft, ReservedPort::any()?))
    }

    /// The file with the CA of the nodes, for a cluster with TLS.
    pub fn authority_file(&self) -> Option<PathBuf> {
        self.certificates.as_ref().map(Certificates::trusted)
    }

    /// The program of a node from its next start on.
    pub fn set_binary(&mut self, id: u16, binary: &Path) {
        self.node_mut(id).binary = Some(binary.to_owned());
    }

    /// The one node that reports that it leads, once all other ready nodes report that they do not.
    pub async fn leader(&self) -> anyhow::Result<u16> {
        let up: Vec<(u16, String)> = self.bases().into_iter().filter(|(id, _)| self.liveness.is_up(*id)).collect();
        wait::until("exactly one node leads", READY_LIMIT, || async {
            let mut leaders = Vec::new();
            for (id, base) in &up {
                if self.client.state(base).await? == "master" {
                    leaders.push(*id);
                }
            }
            match leaders.as_slice() {
                [leader] => Ok(*leader),
                _ => anyhow::bail!("nodes that report that they lead: {leaders:?}"),
            }
        })
        .await
    }

    /// The one of these nodes that reports that it leads.
    pub async fn leader_of(&self, nodes: &[u16]) -> anyhow::Result<u16> {
        wait::until("one of the nodes leads", READY_LIMIT, || async {
            for id in nodes {
                if self.client.state(&self.base(*id)).await? == "master" {
                    return Ok(*id);
                }
            }
            anyhow::bail!("none of {nodes:?}")
        })
        .await
    }

    /// Reserves ports and a directory for one more node, which has the next id and is not started.
    /// [`Self::retire_last`] takes it away again. The load does not use it.
    pub fn grow(&mut self) -> anyhow::Result<u16> {
        let id = self.nodes.last().map_or(1, |node| node.id + 1);
        let data_dir = self.directory().join(format!("data-{id}-of-{}", self.retired_logs.len()));
        let node = Node::new(id, data_dir, self.ruler.as_ref(), self.namespaces.as_ref())?;
        self.nodes.push(node);
        Ok(id)
    }

    /// Stops the last node, which the cluster has removed, and leaves it out from then on.
    pub async fn retire_last(&mut self) -> anyhow::Result<()> {
        let last = self.nodes.last().map(|node| node.id).context("there is no node")?;
        let status = self.terminate(last).await?;
        anyhow::ensure!(status.success(), "node {last} ended with {status}");
        if let Some(node) = self.nodes.pop() {
            self.retired_logs.extend(node.logs);
        }
        Ok(())
    }

    /// A ready node that does not lead.
    pub async fn follower(&self) -> anyhow::Result<u16> {
        let leader = self.leader().await?;
        let follower = self.ids().into_iter().find(|id| *id != leader && self.liveness.is_up(*id));
        follower.context("there is no ready follower")
    }

    /// All that a node has logged since its last start.
    pub fn last_log(&self, id: u16) -> String {
        self.node(id).logs.last().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// Name of that file, as [`Self::logs`] has it.
    pub fn last_log_name(&self, id: u16) -> String {
        let name = self.node(id).logs.last().and_then(|path| path.file_name());
        name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Everything every node has logged: file name and text.
    pub fn logs(&self) -> anyhow::Result<Vec<(String, String)>> {
        let contained = self.nodes.iter().filter_map(|node| Some((node.id, node.container.as_ref()?)));
        let contained = contained.map(|(id, container)| Ok((format!("node-{id}.log"), container.log()?)));
        let paths = self.nodes.iter().flat_map(|node| &node.logs).chain(&self.retired_logs);
        let written = paths.map(|path| {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            Ok((name, String::from_utf8_lossy(&bytes).into_owned()))
        });
        contained.chain(written).collect()
    }

    /// Marks the test as passed, if the logs contain no secret: the files are removed with this
    /// value.
    pub fn passed(&mut self) -> anyhow::Result<()> {
        let keys = self.certificates.as_ref().map(Certificates::private_keys).transpose()?.unwrap_or_default();
        let logins = [ADMIN, OPERATOR].iter().flat_map(|(login, password)| secrets::of_login(login, password));
        let secrets: Vec<String> = logins.chain(keys.iter().flat_map(|key| secrets::of_key(key))).collect();
        check::none(&secrets::check(&self.logs()?, &secrets))?;
        self.passed = true;
        Ok(())
    }

    fn log_tail(&self, id: u16) -> String {
        let log = self.last_log(id);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn node(&self, id: u16) -> &Node {
        &self.nodes[usize::from(id) - 1]
    }

    fn node_mut(&mut self, id: u16) -> &mut Node {
        &mut self.nodes[usize::from(id) - 1]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // They are killed with this value.
        for (node, process) in self.nodes.iter().filter_map(|node| Some((node.id, node.process.as_ref()?))) {
            self.ended(node, process.own_pid());
        }
        if !self.passed
            && let Some(root) = self.root.take()
        {
            eprintln!("files of the cluster are kept in {}", root.keep().display());
        }
    }
}
