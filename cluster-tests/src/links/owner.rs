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
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let Some(socket) = socket_at(peer, &sockets) else { return Look::Gone };
    let owns = |pid: u32| {
        let files =
            i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()).and_then(|process| process.fd().ok());
        files.is_some_and(|mut files| {
            files.any(|file| file.is_ok_and(|file| matches!(file.target, FDTarget::Socket(inode) if inode == socket)))
        })
    };
    nodes.iter().find(|(_, pid)| owns(**pid)).map_or(Look::Nobody, |(node, _)| Look::Node(*node))
}

/// The inode of the socket whose own end is `peer`, in the list of the kernel; `None` if there is
/// none, or if it is being closed and belongs to no file any more. Only the line of the socket is
/// read: `procfs` reads them all, tens of thousands on a busy machine, for every connection.
fn socket_at(peer: SocketAddr, sockets: &str) -> Option<u64> {
    let SocketAddr::V4(peer) = peer else { return None };
    let address = format!(": {:08X}:{:04X} ", u32::from_ne_bytes(peer.ip().octets()), peer.port());
    let inode = |at: usize| sockets[at..].lines().next()?.split_whitespace().nth(9)?.parse().ok();
    sockets.match_indices(&address).filter_map(|(at, _)| inode(at)).find(|inode| *inode != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_socket_is_found_by_its_own_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let own = BTreeMap::from([(7, std::process::id())]);
        for end in [near.local_addr().unwrap(), far.local_addr().unwrap()] {
            assert!(matches!(look(end, &own), Look::Node(7)));
            assert!(matches!(look(end, &BTreeMap::new()), Look::Nobody));
        }
        let gone = near.local_addr().unwrap();
        drop((near, far));
        assert!(matches!(look(gone, &own), Look::Gone));
    }

    #[test]
    fn sockets_that_belong_to_no_file_are_passed_over() {
        let line = |state: &str, inode: u64| {
            format!(
                "   0: 0100007F:1F90 0100007F:C350 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
            )
        };
        let address = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(socket_at(address, &(line("06", 0) + &line("01", 42))), Some(42));
        assert_eq!(socket_at(address, &line("06", 0)), None);
        assert_eq!(socket_at("127.0.0.1:50000".parse().unwrap(), &line("01", 42)), None, "that is the other end");
    }
}
