//! A cluster of real nodes on loopback, in a directory of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;

use crate::certificates::Certificates;
use crate::check::{self, secrets};
use crate::client::{ADMIN, Client, OPERATOR};
use crate::clock::Clocks;
use crate::container::{self, Container};
use crate::links::{Filters, Links, Place, Ruler};
use crate::namespaces::{self, Group};
use crate::ports::ReservedPort;
use crate::process::{ServerProcess, headwater_binary};
use crate::running::Running;
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

/// The nodes that clients should use. The load avoids a node from shortly before its fault until it
/// is ready again.
#[derive(Debug, Clone)]
pub struct Liveness(Arc<[AtomicBool]>);

impl Liveness {
    fn new(nodes: usize) -> Self {
        Self((0..nodes).map(|_| AtomicBool::new(false)).collect())
    }

    /// For nodes behind a balancer, which knows better.
    pub fn all_up(nodes: usize) -> Self {
        Self((0..nodes).map(|_| AtomicBool::new(true)).collect())
    }

    /// Whether clients may use the node.
    pub fn is_up(&self, node: u16) -> bool {
        self.0.get(usize::from(node) - 1).is_some_and(|up| up.load(Ordering::SeqCst))
    }

    fn set(&self, node: u16, up: bool) {
        if let Some(flag) = self.0.get(usize::from(node) - 1) {
            flag.store(up, Ordering::SeqCst);
        }
    }
}

/// A server of the member list. Its ports and directory outlive its processes.
#[derive(Debug)]
struct Node {
    id: u16,
    /// Its own, if it does not share that of this process on loopback.
    place: Option<Place>,
    /// Where it runs, if that is not a process of this suite.
    container: Option<Container>,
    /// Where it listens for the others.
    raft: ReservedPort,
    /// Where the others reach it, if that is elsewhere.
    door: Option<u16>,
    http: ReservedPort,
    data_dir: PathBuf,
    /// Its program, if it is not that of the others.
    binary: Option<PathBuf>,
    process: Option<Running>,
    /// Every log file of this node, one per start.
    logs: Vec<PathBuf>,
}

impl Node {
    /// Reserves its ports; starts nothing.
    fn new(id: u16, data_dir: PathBuf, ruler: Option<&Ruler>, group: Option<&Group>) -> anyhow::Result<Self> {
        let (raft, place) = (ReservedPort::any()?, group.map(|group| group.place(id)));
        let door = match ruler {
            Some(Ruler::Proxies(links)) => Some(links.add(id, raft.number())?),
            Some(Ruler::Filters(filters)) => {
                filters.put(id, place.clone().context("a packet filter needs a namespace")?)?;
                None
            }
            None => None,
        };
        let (http, binary, process, logs) = (ReservedPort::any()?, None, None, Vec::new());
        Ok(Self { id, place, container: None, raft, door, http, data_dir, binary, process, logs })
    }

    /// One that runs in a container.
    fn contained(id: u16, container: Container) -> anyhow::Result<Self> {
        let node = Self::new(id, PathBuf::new(), None, None)?;
        Ok(Self { process: Some(Running::Container(container.clone())), container: Some(container), ..node })
    }

    /// Where clients reach it.
    fn http_address(&self) -> String {
        match &self.container {
            Some(container) => format!("127.0.0.1:{}", container.published),
            None => format!("{}:{}", self.host(), self.http.number()),
        }
    }

    fn host(&self) -> IpAddr {
        self.place.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), |place| place.address)
    }

    /// What starts a program where this node lives, and its options.
    fn command(&self, program: &Path) -> (PathBuf, Vec<String>) {
        match &self.place {
            None => (program.to_owned(), Vec::new()),
            Some(place) => {
                let (entering, mut arguments) = namespaces::enter(&place.namespace);
                arguments.push(program.display().to_string());
                (entering, arguments)
            }
        }
    }
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
        for (id, container) in (1..).zip(container::of_project()?) {
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

    /// Sends SIGHUP and waits until the node logs that it has loaded its certificates again.
    pub async fn reload(&mut self, id: u16) -> anyhow::Result<()> {
        let loaded = |log: String| log.matches("loaded the certificates again").count();
        let before = loaded(self.last_log(id));
        self.process_mut(id)?.signal(Signal::HUP)?;
        wait::until("certificates loaded again", READY_LIMIT, || async {
            anyhow::ensure!(loaded(self.last_log(id)) > before, "not yet\n{}", self.log_tail(id));
            Ok(())
        })
        .await
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

    /// Starts a node as configured.
    pub fn start(&mut self, id: u16) -> anyhow::Result<()> {
        self.start_with(id, &[])
    }

    /// Starts a node with further options.
    pub fn start_with(&mut self, id: u16, options: &[&str]) -> anyhow::Result<()> {
        let members = self.members();
        self.start_as(id, &members, options)
    }

    /// Starts a node with another member list.
    pub fn start_as(&mut self, id: u16, members: &str, options: &[&str]) -> anyhow::Result<()> {
        if let Some(container) = self.node(id).container.clone() {
            anyhow::ensure!(options.is_empty(), "a container has its options already, not {options:?}");
            container.start()?;
            if let Some(filters) = self.ruler()?.filters() {
                filters.put(id, container.place()?)?;
            }
            self.node_mut(id).process = Some(Running::Container(container));
            return Ok(());
        }
        let log_directory = self.directory().join("logs");
        std::fs::create_dir_all(&log_directory).context("cannot create the log directory")?;
        let data_dir = self.node(id).data_dir.display().to_string();
        let node = self.node(id);
        let (program, mut arguments) = node.command(node.binary.as_ref().unwrap_or(&self.binary));
        arguments
            .extend(["--server-id", &id.to_string(), "--members", members, "--data-dir", &data_dir].map(str::to_owned));
        arguments.extend(node.door.map(|_| format!("--raft-listen=127.0.0.1:{}", node.raft.number())));
        arguments.extend(self.certificates.iter().flat_map(|certificates| certificates.options(id)));
        arguments.extend(self.extra.iter().cloned());
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let mut environment = self.environment.clone();
        if let Some(clocks) = &self.clocks {
            environment.extend(clocks.environment(id)?);
        }
        // Of retired nodes of this id, too.
        let starts = self.nodes.iter().map(|node| node.logs.len()).sum::<usize>() + self.retired_logs.len();
        let node = self.node_mut(id);
        anyhow::ensure!(node.process.is_none(), "node {id} already runs");
        let log = log_directory.join(format!("node-{id}-start-{}.log", starts + 1));
        node.logs.push(log.clone());
        let process = ServerProcess::spawn_with(&program, &arguments, &environment, &log)?;
        let pid = process.pid();
        node.process = Some(Running::Process(process));
        match &self.ruler {
            Some(Ruler::Proxies(links)) => links.open(id, pid),
            Some(Ruler::Filters(_)) | None => Ok(()),
        }
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

    /// Starts every node that does not run.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        for id in self.ids() {
            if self.node(id).process.is_none() {
                self.start(id)?;
            }
        }
        Ok(())
    }

    /// Process id of a running node.
    pub fn pid(&self, id: u16) -> anyhow::Result<u32> {
        let process = self.node(id).process.as_ref().with_context(|| format!("node {id} does not run"))?;
        process.pid()
    }

    /// Waits until a node reports that it is ready; fails at once when its process ends.
    pub async fn wait_ready(&mut self, id: u16) -> anyhow::Result<()> {
        let base = self.base(id);
        let client = self.client.clone();
        let started = std::time::Instant::now();
        while !client.is_ready(&base).await {
            if let Some(status) = self.exited(id)? {
                anyhow::bail!("node {id} ended before it was ready: {status}\n{}", self.log_tail(id));
            }
            anyhow::ensure!(
                started.elapsed() < READY_LIMIT,
                "node {id} is not ready after {READY_LIMIT:?}\n{}",
                self.log_tail(id)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.liveness.set(id, true);
        Ok(())
    }

    /// Waits until every running node is ready.
    pub async fn wait_all_ready(&mut self) -> anyhow::Result<()> {
        for id in self.ids() {
            if self.node(id).process.is_some() {
                self.wait_ready(id).await?;
            }
        }
        Ok(())
    }

    /// `kill -9`.
    pub async fn kill(&mut self, id: u16) -> anyhow::Result<()> {
        let process = self.take_down(id)?;
        let pid = process.own_pid();
        process.kill().await?;
        self.ended(id, pid);
        Ok(())
    }

    /// `kill -9` of all running nodes, as close together as the system calls permit.
    pub async fn kill_all(&mut self) -> anyhow::Result<()> {
        let running: Vec<u16> = self.ids().into_iter().filter(|id| self.node(*id).process.is_some()).collect();
        self.kill_each(&running, || ()).await
    }

    /// `kill -9` of these nodes. `killed` runs when each of them has the signal, before their end
    /// is awaited: a process that waits for its disk ends only when the disk answers.
    pub async fn kill_each(&mut self, ids: &[u16], killed: impl FnOnce()) -> anyhow::Result<()> {
        let take_down = |id: &u16| Ok((*id, self.take_down(*id)?));
        let mut processes = ids.iter().map(take_down).collect::<anyhow::Result<Vec<_>>>()?;
        for (_, process) in &mut processes {
            process.signal(Signal::KILL)?;
        }
        killed();
        for (id, process) in processes {
            let pid = process.own_pid();
            process.kill().await?;
            self.ended(id, pid);
        }
        Ok(())
    }

    /// Sends SIGTERM and waits for the node to end.
    pub async fn terminate(&mut self, id: u16) -> anyhow::Result<ExitStatus> {
        let mut process = self.take_down(id)?;
        process.signal(Signal::TERM)?;
        let status = process.wait_exit(SHUTDOWN_LIMIT).await?;
        self.ended(id, process.own_pid());
        Ok(status)
    }

    /// Sends SIGTERM, without waiting for the end of the process.
    pub fn ask_to_end(&mut self, id: u16) -> anyhow::Result<()> {
        self.liveness.set(id, false);
        self.process_mut(id)?.signal(Signal::TERM)
    }

    /// SIGSTOP: the process keeps its sockets and does nothing.
    pub fn pause(&mut self, id: u16) -> anyhow::Result<()> {
        self.liveness.set(id, false);
        self.process_mut(id)?.pause()
    }

    /// SIGCONT. The load uses the node again once [`Self::wait_ready`] has seen it ready.
    pub fn resume(&mut self, id: u16) -> anyhow::Result<()> {
        self.process_mut(id)?.signal(Signal::CONT)
    }

    /// How a started node ended, or `None` while it runs.
    pub fn exited(&mut self, id: u16) -> anyhow::Result<Option<ExitStatus>> {
        self.process_mut(id)?.exited()
    }

    /// Waits for a node to end by itself.
    pub async fn wait_exit(&mut self, id: u16, limit: Duration) -> anyhow::Result<ExitStatus> {
        let status = self.process_mut(id)?.wait_exit(limit).await?;
        let pid = self.take_down(id)?.own_pid();
        self.ended(id, pid);
        Ok(status)
    }

    /// Removes everything a stopped node has on disk.
    pub fn wipe(&mut self, id: u16) -> anyhow::Result<()> {
        let node = self.node(id);
        anyhow::ensure!(node.process.is_none(), "node {id} still runs");
        std::fs::remove_dir_all(&node.data_dir).with_context(|| format!("cannot remove {}", node.data_dir.display()))
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

    /// Others find the port of an ended process closed, and nothing is left of its clock and of the
    /// rules for what it gets.
    fn ended(&self, id: u16, pid: Option<u32>) {
        if let Some(Ruler::Proxies(links)) = &self.ruler {
            links.close(id);
        }
        // A container loses its namespace; others outlive their processes.
        if let (Some(Ruler::Filters(filters)), Some(_)) = (&self.ruler, &self.node(id).container) {
            filters.remove(id);
        }
        if let (Some(clocks), Some(pid)) = (&self.clocks, pid) {
            clocks.forget(pid);
        }
    }

    fn take_down(&mut self, id: u16) -> anyhow::Result<Running> {
        self.liveness.set(id, false);
        self.node_mut(id).process.take().with_context(|| format!("node {id} does not run"))
    }

    fn process_mut(&mut self, id: u16) -> anyhow::Result<&mut Running> {
        self.node_mut(id).process.as_mut().with_context(|| format!("node {id} does not run"))
    }

    fn node(&self, id: u16) -> &Node {
        &self.nodes[usize::from(id) - 1]
    }

    fn node_mut(&mut self, id: u16) -> &mut Node {
        &mut self.nodes[usize::from(id) - 1]
    }
}

fn member_list(nodes: &[Node]) -> String {
    let entry = |node: &Node| {
        let raft = node.door.unwrap_or(node.raft.number());
        let host = node.host();
        format!("{}={host}:{raft}/{host}:{}", node.id, node.http.number())
    };
    nodes.iter().map(entry).collect::<Vec<_>>().join(",")
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
