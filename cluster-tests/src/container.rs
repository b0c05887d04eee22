//! A node in a container of a running project of docker compose.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;

use crate::command;
use crate::links::Place;
use crate::wait;

/// Names the running project.
const PROJECT: &str = "HEADWATER_COMPOSE_PROJECT";

/// Names the container engine, if it is not docker.
const ENGINE: &str = "CONTAINER_ENGINE";

/// Ports of the nodes on this machine, as deploy/docker-compose.yml publishes them.
const PUBLISHED: [u16; 3] = [2121, 2122, 2123];

/// A running project of docker compose, and its engine.
#[derive(Debug, Clone)]
pub struct Project {
    engine: String,
    name: String,
}

impl Project {
    /// The one that the environment names.
    pub fn from_environment() -> anyhow::Result<Self> {
        let name = std::env::var(PROJECT).with_context(|| {
            format!("{PROJECT} names no running project; `make compose-test` and `make chaos-compose` start one")
        })?;
        let engine = std::env::var(ENGINE).unwrap_or_else(|_| "docker".to_owned());
        Ok(Self { engine, name })
    }

    /// The containers of the nodes 1 to 3.
    pub fn nodes(&self) -> anyhow::Result<Vec<Container>> {
        let nodes = (1..).zip(PUBLISHED);
        nodes.map(|(id, port)| Ok(Container { published: port, ..self.container(&format!("node{id}"))? })).collect()
    }

    /// The container of a service, which publishes nothing that is known here.
    pub fn container(&self, service: &str) -> anyhow::Result<Container> {
        let label = |kind: &str, value: &str| format!("label=com.docker.compose.{kind}={value}");
        let (project, of_service) = (label("project", &self.name), label("service", service));
        let arguments = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &project, "--filter", &of_service];
        let ids = command::said(Command::new(&self.engine).args(arguments))?;
        let id = ids.lines().next().with_context(|| format!("there is no container of {service}"))?.to_owned();
        Ok(Container { engine: self.engine.clone(), id, service: service.to_owned(), published: 0 })
    }

    /// The network that compose makes for a file without one.
    pub fn network(&self) -> String {
        format!("{}_default", self.name)
    }
}

/// A container and its engine.
#[derive(Debug, Clone)]
pub struct Container {
    engine: String,
    id: String,
    /// The name of its service, by which others find it.
    service: String,
    /// Port of its node on loopback of this machine.
    pub(crate) published: u16,
}

impl Container {
    /// Where clients on this machine reach its node.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.published)
    }

    /// Starts it, if it does not run.
    pub fn start(&self) -> anyhow::Result<()> {
        self.engine(&["start"]).map(drop)
    }

    /// Freezes all its processes.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.engine(&["pause"]).map(drop)
    }

    /// KILL and CONT as for a process; with TERM the engine stops it in order, and this waits.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let verb: &[&str] = match signal {
            Signal::KILL => &["kill"],
            Signal::CONT => &["unpause"],
            Signal::TERM => &["stop", "--time", "40"],
            _ => anyhow::bail!("a container gets no {signal:?}"),
        };
        self.engine(verb).map(drop)
    }

    /// Stops it in order and starts it again.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.engine(&["restart"]).map(drop)
    }

    /// Takes its interface to this network away.
    pub fn disconnect(&self, network: &str) -> anyhow::Result<()> {
        self.engine(&["network", "disconnect", network]).map(drop)
    }

    /// Gives it back, perhaps with another address.
    pub fn connect(&self, network: &str) -> anyhow::Result<()> {
        self.engine(&["network", "connect", "--alias", &self.service, network]).map(drop)
    }

    /// Changes the packet filter in its network namespace, from outside: the image has no tool for
    /// that.
    pub fn filter(&self, rules: &str) -> anyhow::Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid()?)).args(["nft", rules]);
        command::said(&mut command).map(drop)
    }

    /// What the check of its image or file has found: `healthy`, `starting`, `unhealthy`.
    pub fn health(&self) -> anyhow::Result<String> {
        self.state("{{.State.Health.Status}}")
    }

    /// Process id of the node on this machine, 0 while it does not run.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.state("{{.State.Pid}}")?.parse().context("not a pid")
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn exited(&self) -> anyhow::Result<Option<ExitStatus>> {
        if self.state("{{.State.Running}}")? == "true" {
            return Ok(None);
        }
        let code: i32 = self.state("{{.State.ExitCode}}")?.parse().context("not an exit code")?;
        Ok(Some(ExitStatus::from_raw(code << 8)))
    }

    /// Waits for it to end.
    pub(crate) async fn wait_exit(&self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            anyhow::ensure!(started.elapsed() < limit, "container {} still runs after {limit:?}", self.id);
            tokio::time::sleep(wait::POLL).await;
        }
    }

    /// How others see its packets. Each start has a namespace of its own, and perhaps an address.
    pub(crate) fn place(&self) -> anyhow::Result<Place> {
        let addresses = self.state("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}")?;
        let address = addresses.split_whitespace().next().context("it has no address")?;
        let namespace = format!("/proc/{}/ns/net", self.pid()?).into();
        Ok(Place { address: address.parse().context("not an address")?, namespace })
    }

    /// All that it has written since it was made.
    pub fn log(&self) -> anyhow::Result<String> {
        let output = command::run(Command::new(&self.engine).args(["logs", &self.id]), "")?;
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }

    fn state(&self, format: &str) -> anyhow::Result<String> {
        Ok(self.engine(&["inspect", "--format", format])?.trim().to_owned())
    }

    fn engine(&self, verb: &[&str]) -> anyhow::Result<String> {
        command::said(Command::new(&self.engine).args(verb).arg(&self.id))
    }
}
