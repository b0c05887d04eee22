//! Which node has opened a connection: the one whose process owns its socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use procfs::process::{FDTarget, Process};

/// The kernel lists sockets, and files of a process, while they change: one that was missed is
/// there at a later look.
const LOOKS: u32 = 50;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Processes of nodes.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<BTreeMap<u16, u32>>);

impl Owners {
    pub(super) fn set(&self, node: u16, pid: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node, pid);
    }

    pub(super) fn forget(&self, node: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    /// The node at the other end of a connection, whose address there is `peer`; `None` if it is
    /// none of them or has ended.
    pub(super) async fn find(&self, peer: SocketAddr) -> Option<u16> {
        for _ in 0..LOOKS {
            let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let found = tokio::task::spawn_blocking(move || find(peer, &nodes)).await;
            if let Ok(Some(node)) = found {
                return Some(node);
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }
}

fn find(peer: SocketAddr, nodes: &BTreeMap<u16, u32>) -> Option<u16> {
    let socket = procfs::net::tcp().ok()?.into_iter().find(|socket| socket.local_address == peer)?.inode;
    let owns = |pid: u32| {
        let files =
            i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()).and_then(|process| process.fd().ok());
        files.is_some_and(|mut files| {
            files.any(|file| file.is_ok_and(|file| matches!(file.target, FDTarget::Socket(inode) if inode == socket)))
        })
    };
    nodes.iter().find(|(_, pid)| owns(**pid)).map(|(node, _)| *node)
}
