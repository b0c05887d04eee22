//! Which node has opened a connection: the one whose process owns its socket.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// How many looks were begun.
    begun: AtomicU64,
    /// The newest look that has ended, and what it saw. One look at a time, for all who wait: each
    /// reads the list of all sockets of the machine, and an election opens dozens of connections.
    ended: tokio::sync::Mutex<(u64, Arc<Seen>)>,
}

/// What a look at the machine saw.
#[derive(Debug, Default)]
struct Seen {
    /// The kernel's list of sockets.
    sockets: String,
    /// Which node has which socket, by its inode.
    owners: HashMap<u64, u16>,
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
        self.seen().await.look(peer)
    }

    /// What a look saw that began after this call.
    async fn seen(&self) -> Arc<Seen> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut ended = self.ended.lock().await;
        if ended.0 <= begun_before {
            let look = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let seen = tokio::task::spawn_blocking(move || Seen::now(&nodes)).await.unwrap_or_default();
            *ended = (look, Arc::new(seen));
        }
        Arc::clone(&ended.1)
    }
}

impl Seen {
    /// Looks at the sockets of the machine, and at those of these processes of nodes.
    fn now(nodes: &BTreeMap<u16, u32>) -> Self {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let mut owners = HashMap::new();
        for (node, pid) in nodes {
            let process = i32::try_from(*pid).ok().and_then(|pid| Process::new(pid).ok());
            let files = process.and_then(|process| process.fd().ok()).into_iter().flatten();
            let inodes = files.filter_map(|file| match file.ok()?.target {
                FDTarget::Socket(inode) => Some(inode),
                _ => None,
            });
            owners.extend(inodes.map(|inode| (inode, *node)));
        }
        Self { sockets, owners }
    }

    fn look(&self, peer: SocketAddr) -> Look {
        let Some(inode) = socket_at(peer, &self.sockets) else { return Look::Gone };
        self.owners.get(&inode).map_or(Look::Nobody, |node| Look::Node(*node))
    }
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
            assert!(matches!(Seen::now(&own).look(end), Look::Node(7)));
            assert!(matches!(Seen::now(&BTreeMap::new()).look(end), Look::Nobody));
        }
        let gone = near.local_addr().unwrap();
        drop((near, far));
        assert!(matches!(Seen::now(&own).look(gone), Look::Gone));
    }

    #[tokio::test]
    async fn all_who_ask_meanwhile_share_the_next_look_and_no_older_one() {
        let owners = Owners::default();
        // The first one begins a look at once, and the others begin to wait after that.
        let seen = futures::future::join_all((0..50).map(|_| owners.seen())).await;
        assert!(!Arc::ptr_eq(&seen[0], &seen[1]));
        assert!(seen[1..].iter().all(|one| Arc::ptr_eq(one, &seen[1])));
        assert_eq!(owners.begun.load(Ordering::SeqCst), 2);
        assert!(!Arc::ptr_eq(&owners.seen().await, &seen[1]));
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
