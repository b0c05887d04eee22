//! The containers of a project of docker compose, and what strikes at them.

use std::time::Duration;

use headwater_cluster_tests::client::Client;
use headwater_cluster_tests::container::{Container, Project};
use headwater_cluster_tests::wait;
use rustix::process::Signal;

/// A node that is not ready by then hangs, in a debug build on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Address of the balancer.
pub(crate) const BALANCER: &str = "http://127.0.0.1:2113";

/// What cuts a node off without a sign: packets from and to everywhere are dropped.
const DROP_ALL: &str = "add table inet cut; \
     add chain inet cut in { type filter hook input priority 0; policy drop; }; \
     add chain inet cut out { type filter hook output priority 0; policy drop; }";

/// What is done to a node, and undone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Pause,
    Kill,
    Restart,
    /// Its interface is taken away.
    Disconnect,
    /// Every packet that it sends or gets is dropped, its own health check among them.
    CutOff,
}

impl Fault {
    fn strike(self, node: &Container, network: &str) -> anyhow::Result<()> {
        match self {
            Self::Pause => node.pause(),
            Self::Kill => node.signal(Signal::KILL),
            Self::Restart => node.restart(),
            Self::Disconnect => node.disconnect(network),
            Self::CutOff => node.filter(DROP_ALL),
        }
    }

    fn heal(self, node: &Container, network: &str) -> anyhow::Result<()> {
        match self {
            Self::Pause => node.signal(Signal::CONT),
            Self::Kill => node.start(),
            Self::Restart => Ok(()),
            Self::Disconnect => node.connect(network),
            Self::CutOff => node.filter("delete table inet cut"),
        }
    }
}

/// The running project.
#[derive(Debug)]
pub(crate) struct Containers {
    network: String,
    nodes: Vec<Container>,
    balancer: Container,
    client: Client,
}

impl Containers {
    /// The project that `scripts/compose-test` has started.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let project = Project::from_environment()?;
        let (nodes, balancer) = (project.nodes()?, project.container("balancer")?);
        Ok(Self { network: project.network(), nodes, balancer, client: Client::new()? })
    }

    /// For requests of the test.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Server ids and addresses of the nodes.
    pub(crate) fn bases(&self) -> Vec<(u16, String)> {
        (1..).zip(self.nodes.iter().map(Container::base)).collect()
    }

    /// Waits until every node is ready, asked directly and not through the balancer.
    pub(crate) async fn wait_all_ready(&self) -> anyhow::Result<()> {
        for (id, base) in self.bases() {
            wait::until(&format!("node {id} is ready"), READY_LIMIT, || async {
                anyhow::ensure!(self.client.is_ready(&base).await, "not yet");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until the engine has found every container healthy by the check of its image or file.
    pub(crate) async fn wait_all_healthy(&self) -> anyhow::Result<()> {
        for container in self.nodes.iter().chain([&self.balancer]) {
            wait::until(&format!("{container:?} is healthy"), READY_LIMIT, || async {
                let health = tokio::task::block_in_place(|| container.health())?;
                anyhow::ensure!(health == "healthy", "it is {health}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// The server id of the node that leads.
    pub(crate) async fn leader(&self) -> anyhow::Result<u16> {
        wait::until("a node leads", READY_LIMIT, || async {
            for (id, base) in self.bases() {
                if self.client.state(&base).await? == "master" {
                    return Ok(id);
                }
            }
            anyhow::bail!("none does")
        })
        .await
    }

    /// Has a fault begin on a node.
    pub(crate) fn strike(&self, fault: Fault, id: u16) -> anyhow::Result<()> {
        tokio::task::block_in_place(|| fault.strike(self.node(id), &self.network))
    }

    /// Ends the fault.
    pub(crate) fn heal(&self, fault: Fault, id: u16) -> anyhow::Result<()> {
        tokio::task::block_in_place(|| fault.heal(self.node(id), &self.network))
    }

    /// The log of each node since its container was made.
    pub(crate) fn logs(&self) -> anyhow::Result<Vec<(String, String)>> {
        let nodes = (1..).zip(&self.nodes);
        nodes.map(|(id, node): (u16, _)| Ok((format!("node{id}"), node.log()?))).collect()
    }

    fn node(&self, id: u16) -> &Container {
        &self.nodes[usize::from(id) - 1]
    }
}
