//! The containers of a project of docker compose, and what strikes at them.

use std::process::Output;
use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::client::Client;
use headwater_cluster_tests::wait;
use tokio::process::Command;

/// A command of the engine that takes longer hangs; stopping a node in order takes 30 s at most.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A node that is not ready by then hangs, in a debug build on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Ports of the nodes on this machine, as the file publishes them.
const NODES: [(u16, &str); 3] =
    [(1, "http://127.0.0.1:2121"), (2, "http://127.0.0.1:2122"), (3, "http://127.0.0.1:2123")];

/// Address of the balancer.
pub(crate) const BALANCER: &str = "http://127.0.0.1:2113";

/// What cuts a node off without a sign: packets from and to everywhere are dropped.
const DROP_ALL: &str = "add table inet cut; \
     add chain inet cut in { type filter hook input priority 0; policy drop; }; \
     add chain inet cut out { type filter hook output priority 0; policy drop; }";

/// The running project.
#[derive(Debug)]
pub(crate) struct Containers {
    engine: String,
    project: String,
    client: Client,
}

impl Containers {
    /// The project that `scripts/compose-test` has started.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let project = std::env::var("HEADWATER_COMPOSE_PROJECT")
            .context("HEADWATER_COMPOSE_PROJECT names no running project; `make compose-test` starts one")?;
        let engine = std::env::var("CONTAINER_ENGINE").unwrap_or_else(|_| "docker".to_owned());
        Ok(Self { engine, project, client: Client::new()? })
    }

    /// For requests of the test.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Server ids and addresses of the nodes.
    pub(crate) fn bases(&self) -> Vec<(u16, String)> {
        NODES.iter().map(|(id, base)| (*id, (*base).to_owned())).collect()
    }

    /// Waits until every node is ready, asked directly and not through the balancer.
    pub(crate) async fn wait_all_ready(&self) -> anyhow::Result<()> {
        for (id, base) in NODES {
            wait::until(&format!("node {id} is ready"), READY_LIMIT, || async {
                anyhow::ensure!(self.client.is_ready(base).await, "not yet");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until the engine has found every container healthy by the check of its image or file.
    pub(crate) async fn wait_all_healthy(&self) -> anyhow::Result<()> {
        for service in ["node1", "node2", "node3", "balancer"] {
            let container = self.container(service).await?;
            wait::until(&format!("{service} is healthy"), READY_LIMIT, || async {
                let health = self.engine(&["inspect", "--format", "{{.State.Health.Status}}", &container]).await?;
                anyhow::ensure!(health.trim() == "healthy", "it is {}", health.trim());
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// The server id of the node that leads.
    pub(crate) async fn leader(&self) -> anyhow::Result<u16> {
        wait::until("a node leads", READY_LIMIT, || async {
            for (id, base) in NODES {
                if self.client.state(base).await? == "master" {
                    return Ok(id);
                }
            }
            anyhow::bail!("none does")
        })
        .await
    }

    /// Has the engine do something with the container of a node: `pause`, `unpause`, `kill`,
    /// `start`, `restart`.
    pub(crate) async fn node(&self, verb: &str, id: u16) -> anyhow::Result<()> {
        let container = self.container(&format!("node{id}")).await?;
        self.engine(&[verb, &container]).await.map(drop)
    }

    /// Takes the interface of a node away.
    pub(crate) async fn disconnect(&self, id: u16) -> anyhow::Result<()> {
        let container = self.container(&format!("node{id}")).await?;
        self.engine(&["network", "disconnect", &self.network(), &container]).await.map(drop)
    }

    /// Gives it back, perhaps with another address.
    pub(crate) async fn connect(&self, id: u16) -> anyhow::Result<()> {
        let (service, network) = (format!("node{id}"), self.network());
        let container = self.container(&service).await?;
        self.engine(&["network", "connect", "--alias", &service, &network, &container]).await.map(drop)
    }

    /// Drops every packet that a node sends or gets, its own health check among them.
    pub(crate) async fn cut_off(&self, id: u16) -> anyhow::Result<()> {
        self.filter(id, DROP_ALL).await
    }

    /// Lets the packets through again.
    pub(crate) async fn heal(&self, id: u16) -> anyhow::Result<()> {
        self.filter(id, "delete table inet cut").await
    }

    /// The log of each node since its container was made.
    pub(crate) async fn logs(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut logs = Vec::new();
        for (id, _) in NODES {
            let service = format!("node{id}");
            let container = self.container(&service).await?;
            let output = run(&self.engine, &["logs", &container]).await?;
            logs.push((service, String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(logs)
    }

    /// The network that compose makes for a file without one.
    fn network(&self) -> String {
        format!("{}_default", self.project)
    }

    async fn container(&self, service: &str) -> anyhow::Result<String> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let found =
            self.engine(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &project, "--filter", &service]).await?;
        let id = found.lines().next().with_context(|| format!("there is no container with {project}, {service}"))?;
        Ok(id.to_owned())
    }

    /// Changes the packet filter in the network namespace of a node, from outside: the image has no
    /// tool for that.
    async fn filter(&self, id: u16, rules: &str) -> anyhow::Result<()> {
        let container = self.container(&format!("node{id}")).await?;
        let pid = self.engine(&["inspect", "--format", "{{.State.Pid}}", &container]).await?;
        said("nsenter", &["--target", pid.trim(), "--net", "nft", rules]).await.map(drop)
    }

    async fn engine(&self, arguments: &[&str]) -> anyhow::Result<String> {
        said(&self.engine, arguments).await
    }
}

async fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(program);
    let output = command.args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(COMMAND_LIMIT, output).await;
    output.with_context(|| format!("{program} {arguments:?} does not end"))?.context(program.to_owned())
}

/// What a command says; an error unless it ends with success.
async fn said(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = run(program, arguments).await?;
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{program} {arguments:?}: {}: {told}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
