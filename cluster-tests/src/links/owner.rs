//! Which node has opened a connection: the one whose process owns its socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use procfs::process::{FDTarget, Process};

/// The kernel lists sockets, and files of a process, while they change: one that was missed is
/// there at a later look.
const LOOKS: u32 = 5;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// So much longer the owner is looked for of a socket that is there: on a busy machine a process
/// may not have come to its end, or its beginning, for a while.
const MORE_LOOKS: u32 = 20;

/// Processes of nodes.
#[derive(Debug, Default)]
pub(super) struct Owners {
    nodes: Mutex<BTreeMap<u16, u32>>,
    /// One look at a time: each reads the list of all sockets of the machine.
    turn: tokio::sync::Mutex<()>,
}

/// What a look has shown.
enum Look {
    Node(u16),
    /// The socket is there, and none of the nodes has it.
    Nobody,
    /// There is no such socket.
    Gone,
}

impl Owners {
    pub(super) fn set(&self, node: u16, pid: u32) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).insert(node, pid);
    }

    pub(super) fn forget(&self, node: u16) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    /// The node at the other end of a connection, whose address there is `peer`; `None` if it is
    /// none of them or has ended.
    pub(super) async fn find(&self, peer: SocketAddr) -> Option<u16> {
        let (mut looks, mut allowed) = (0, LOOKS);
        while looks < allowed {
            match self.look(peer).await {
                Look::Node(node) => return Some(node),
                Look::Nobody => allowed = LOOKS + MORE_LOOKS,
                Look::Gone => allowed = LOOKS,
            }
            looks += 1;
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    async fn look(&self, peer: SocketAddr) -> Look {
        let _turn = self.turn.lock().await;
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::task::spawn_blocking(move || look(peer, &nodes)).await.unwrap_or(Look::Gone)
    }
}

fn look(peer: SocketAddr, nodes: &BTreeMap<u16, u32>) -> Look {
    let sockets = procfs::net::tcp().unwrap_or_default();
    // One that is being closed belongs to no file any more.
    let socket = sockets.into_iter().find(|socket| socket.local_address == peer && socket.inode != 0);
    let Some(socket) = socket.map(|socket| socket.inode) else { return Look::Gone };
    let owns = |pid: u32| {
        let files =
            i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()).and_then(|process| process.fd().ok());
        files.is_some_and(|mut files| {
            files.any(|file| file.is_ok_and(|file| matches!(file.target, FDTarget::Socket(inode) if inode == socket)))
        })
    };
    nodes.iter().find(|(_, pid)| owns(**pid)).map_or(Look::Nobody, |(node, _)| Look::Node(*node))
}
