//! Network namespaces for a cluster: one for each node, and one with a bridge between them, in
//! which the suite itself runs. All addresses are in there; the network of the machine is not
//! touched.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal};
use tokio::signal::unix::{SignalKind, signal};

use crate::command;
use crate::links::Place;
use crate::wait;

/// Every namespace of the suite begins so. The id of the process that has made it follows.
const PREFIX: &str = "hwchaos-";

/// Name of a process of the suite, which may own namespaces.
const OWNER: &str = "chaos";

/// Where `ip netns` keeps namespaces.
const DIRECTORY: &str = "/run/netns";

/// A killed process is gone by then.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Programs of the kernel's network lie where only root looks for them.
pub(crate) fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// The namespaces of one cluster. They and what runs in them go with this value.
#[derive(Debug)]
pub struct Namespaces {
    group: Group,
    nodes: u16,
}

/// The names and addresses of the namespaces of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(String);

impl Group {
    /// As it is called on the command line of a process inside.
    pub fn of(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// For the command line of a process inside.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// A node and its namespace.
    pub fn place(&self, node: u16) -> Place {
        Place { address: address(node).into(), namespace: Path::new(DIRECTORY).join(self.of_node(node)) }
    }

    fn of_node(&self, node: u16) -> String {
        format!("{}-{node}", self.0)
    }

    /// The one with the bridge.
    fn hub(&self) -> String {
        format!("{}-hub", self.0)
    }
}

/// A private range, which exists in these namespaces only.
fn address(node: u16) -> Ipv4Addr {
    let [high, low] = node.to_be_bytes();
    Ipv4Addr::new(10, 213, high, low)
}

impl Namespaces {
    /// Makes namespaces for nodes with the ids 1 to `nodes`. Needs root; the error says so.
    pub fn make(nodes: u16) -> anyhow::Result<Self> {
        can_be_made()?;
        remove_leftovers()?;
        let made = Self { group: Group(format!("{PREFIX}{}", std::process::id())), nodes };
        let hub = made.group.hub();
        ip(&["netns", "add", &hub])?;
        let in_hub = |arguments: &[&str]| ip(&[&["-netns", &hub], arguments].concat());
        in_hub(&["link", "add", "bridge", "type", "bridge"])?;
        in_hub(&["address", "add", &format!("{}/16", address(u16::MAX - 1)), "dev", "bridge"])?;
        in_hub(&["link", "set", "bridge", "up"])?;
        in_hub(&["link", "set", "lo", "up"])?;
        for node in 1..=nodes {
            let (name, port) = (made.group.of_node(node), format!("node{node}"));
            ip(&["netns", "add", &name])?;
            in_hub(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            in_hub(&["link", "set", &port, "master", "bridge", "up"])?;
            let of_node = |arguments: &[&str]| ip(&[&["-netns", &name], arguments].concat());
            of_node(&["address", "add", &format!("{}/16", address(node)), "dev", "eth0"])?;
            of_node(&["link", "set", "eth0", "up"])?;
            of_node(&["link", "set", "lo", "up"])?;
        }
        Ok(made)
    }

    /// Their names.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Runs a program beside the bridge, from where every node can be reached, until it ends or
    /// this process is asked to end.
    pub async fn run(&self, program: &Path, arguments: &[String]) -> anyhow::Result<ExitStatus> {
        let mut command = tokio::process::Command::new("ip");
        command.env("PATH", path_with_sbin()).args(["netns", "exec", &self.group.hub()]).arg(program);
        let mut child = command.args(arguments).kill_on_drop(true).spawn().context("`ip` cannot be started")?;
        let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hung_up = signal(SignalKind::hangup())?;
        tokio::select! {
            ended = child.wait() => return ended.context("cannot await the process"),
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
            _ = hung_up.recv() => {}
        }
        child.kill().await.context("cannot end the process")?;
        anyhow::bail!("asked to end")
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let nodes = (1..=self.nodes).map(|node| self.group.of_node(node));
        for name in nodes.chain([self.group.hub()]) {
            if let Err(error) = remove(&name) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// Fails where a run in namespaces cannot be, with the reason.
pub fn can_be_made() -> anyhow::Result<()> {
    anyhow::ensure!(rustix::process::geteuid().is_root(), "network namespaces need root");
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux")] {
        let path = path_with_sbin();
        let found = path.split(':').any(|directory| Path::new(directory).join(program).is_file());
        anyhow::ensure!(found, "`{program}` is missing; Debian has it in the package {package}");
    }
    Ok(())
}

/// Removes namespaces of this suite whose owner was killed.
fn remove_leftovers() -> anyhow::Result<()> {
    let Ok(names) = fs::read_dir(DIRECTORY) else { return Ok(()) };
    for name in names.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(owner) = owner else { continue };
        let lives = fs::read_to_string(format!("/proc/{owner}/comm")).is_ok_and(|name| name.trim() == OWNER);
        if !lives {
            eprintln!("removing the network namespace {name} of a run that was killed");
            remove(&name)?;
        }
    }
    Ok(())
}

/// Ends everything that runs in a namespace of this suite, and removes it.
fn remove(name: &str) -> anyhow::Result<()> {
    if !Path::new(DIRECTORY).join(name).exists() {
        return Ok(());
    }
    let started = std::time::Instant::now();
    loop {
        let pids: Vec<i32> = ip(&["netns", "pids", name])?.lines().filter_map(|pid| pid.parse().ok()).collect();
        if pids.is_empty() {
            break;
        }
        anyhow::ensure!(started.elapsed() < END_LIMIT, "processes {pids:?} in the namespace {name} do not end");
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            // It may have ended by now.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(wait::POLL);
    }
    ip(&["netns", "delete", name]).map(drop)
}

/// The program and its options that run a node in a namespace.
pub(crate) fn enter(namespace: &Path) -> (PathBuf, Vec<String>) {
    (PathBuf::from("nsenter"), vec![format!("--net={}", namespace.display())])
}

/// Runs `ip`; returns what it says.
fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    command::said(Command::new("ip").env("PATH", path_with_sbin()).args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_an_address_of_its_own() {
        assert_eq!(address(1).to_string(), "10.213.0.1");
        assert_eq!(address(258).to_string(), "10.213.1.2");
        let group = Group::of("hwchaos-7");
        assert_eq!(group.place(2).namespace, Path::new("/run/netns/hwchaos-7-2"));
    }
}
