//! One node of a cluster: its ports, its files, and where it runs.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::container::Container;
use crate::links::{Place, Ruler};
use crate::namespaces::{self, Group};
use crate::ports::ReservedPort;
use crate::running::Running;

/// A server of the member list. Its ports and directory outlive its processes.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: u16,
    /// Its own, if it does not share that of this process on loopback.
    pub(super) place: Option<Place>,
    /// Where it runs, if that is not a process of this suite.
    pub(super) container: Option<Container>,
    /// Where it listens for the others.
    pub(super) raft: ReservedPort,
    /// Where the others reach it, if that is elsewhere.
    pub(super) door: Option<u16>,
    pub(super) http: ReservedPort,
    pub(super) data_dir: PathBuf,
    /// Its program, if it is not that of the others.
    pub(super) binary: Option<PathBuf>,
    pub(super) process: Option<Running>,
    /// Every log file of this node, one per start.
    pub(super) logs: Vec<PathBuf>,
}

impl Node {
    /// Reserves its ports; starts nothing.
    pub(super) fn new(
        id: u16,
        data_dir: PathBuf,
        ruler: Option<&Ruler>,
        group: Option<&Group>,
    ) -> anyhow::Result<Self> {
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
    pub(super) fn contained(id: u16, container: Container) -> anyhow::Result<Self> {
        let node = Self::new(id, PathBuf::new(), None, None)?;
        Ok(Self { process: Some(Running::Container(container.clone())), container: Some(container), ..node })
    }

    /// Where clients reach it.
    pub(super) fn http_address(&self) -> String {
        match &self.container {
            Some(container) => format!("127.0.0.1:{}", container.published),
            None => format!("{}:{}", self.host(), self.http.number()),
        }
    }

    pub(super) fn host(&self) -> IpAddr {
        self.place.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), |place| place.address)
    }

    /// What starts a program where this node lives, and its options.
    pub(super) fn command(&self, program: &Path) -> (PathBuf, Vec<String>) {
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

/// The list of members with these nodes.
pub(super) fn member_list(nodes: &[Node]) -> String {
    let entry = |node: &Node| {
        let raft = node.door.unwrap_or(node.raft.number());
        let host = node.host();
        format!("{}={host}:{raft}/{host}:{}", node.id, node.http.number())
    };
    nodes.iter().map(entry).collect::<Vec<_>>().join(",")
}
