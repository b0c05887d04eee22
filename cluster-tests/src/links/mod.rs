//! The links between nodes, as TCP proxies: one door per node, through which all others reach it.
//!
//! A node advertises its door and listens elsewhere. Who calls is seen from the process that owns
//! the calling socket, so every node keeps one address, as a membership has it, and every ordered
//! pair of nodes is a [`Link`] with a [`Rule`] of its own. A rule holds for the bytes that go that
//! way, whichever node has opened the connection.
//!
//! Possible: a link cut one way or both ways (what is sent waits, as it does for TCP), connections
//! that lead nowhere ([`Rule::half_open`]), resets, delay with jitter, bandwidth, bytes of a dead
//! connection that arrive late (those that waited when its sender ended) or once more on a
//! connection of their own ([`Links::replay`]).
//!
//! Not possible with a proxy: to lose or reorder bytes inside a connection (TCP would not show it
//! to a program either), or to leave a connection attempt without any answer: it is accepted, and
//! then nothing comes. A replay of bytes needs connections in the clear: those of TLS belong to
//! their own keys.
//!
//! [`Ruler`] is one of these or of [`Filters`], which rule the links of nodes that have a network
//! namespace each.
//!
//! Where the process of a node has ended its door is closed, so that others find its port refused
//! as they do without proxies.

mod connection;
mod filters;
mod owner;
mod pace;
pub mod partition;
mod rule;
mod ruler;
mod table;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

use connection::Connection;
pub use filters::{Filters, Place};
use owner::Owners;
pub use rule::{Delay, Link, Rule};
pub use ruler::Ruler;
pub use table::Seen;
use table::Table;

use crate::ports::ReservedPort;

/// Connection attempts that wait for a door; nodes open a few connections to each other.
const BACKLOG: u32 = 128;

/// A door is closed within this time, unless the machine stands still.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// How long the answers to a replay are read, so that the node gets to its end.
const REPLAY_LIMIT: Duration = Duration::from_secs(2);

/// The links of one cluster. Rules are changed here and take effect at once.
#[derive(Debug)]
pub struct Links {
    table: Arc<Table>,
    owners: Arc<Owners>,
    doors: Mutex<BTreeMap<u16, Door>>,
    /// Proxies work on threads of their own: a test may block its thread.
    runtime: Option<Runtime>,
}

/// The way to one node.
#[derive(Debug)]
struct Door {
    port: ReservedPort,
    /// Where the node listens.
    target: SocketAddr,
    /// Accepts connections, while the process of the node lives.
    accepting: Option<JoinHandle<()>>,
}

impl Links {
    /// No links yet. `seed` decides about jitter.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("links")
            .enable_all()
            .build()
            .context("no runtime for the links")?;
        let (table, owners) = (Arc::new(Table::new(seed)), Arc::default());
        Ok(Self { table, owners, doors: Mutex::default(), runtime: Some(runtime) })
    }

    /// Adds a node that listens on a port of loopback; returns the port of its door.
    pub fn add(&self, node: u16, listens_on: u16) -> anyhow::Result<u16> {
        let port = ReservedPort::any()?;
        let number = port.number();
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, listens_on));
        self.doors().insert(node, Door { port, target, accepting: None });
        Ok(number)
    }

    /// Opens the door of a node whose process has just been started.
    pub fn open(&self, node: u16, pid: u32) -> anyhow::Result<()> {
        self.owners.set(node, pid);
        let runtime = self.runtime.as_ref().context("the links have ended")?;
        let _on_it = runtime.enter();
        let mut doors = self.doors();
        let door = doors.get_mut(&node).with_context(|| format!("node {node} has no door"))?;
        if door.accepting.as_ref().is_some_and(|accepting| !accepting.is_finished()) {
            return Ok(());
        }
        let listener = listen(door.port.number())?;
        let (table, owners) = (Arc::clone(&self.table), Arc::clone(&self.owners));
        door.accepting = Some(runtime.spawn(accept(listener, node, door.target, table, owners)));
        Ok(())
    }

    /// Closes the door of a node whose process has ended.
    pub fn close(&self, node: u16) {
        self.owners.forget(node);
        let Some(accepting) = self.doors().get_mut(&node).and_then(|door| door.accepting.take()) else { return };
        accepting.abort();
        // It ends on another thread. Until then the port is not closed, and cannot be opened again.
        let started = Instant::now();
        while !accepting.is_finished() && started.elapsed() < CLOSE_LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Changes the rule of a link.
    pub fn change(&self, link: Link, change: impl FnOnce(&mut Rule)) {
        self.table.change(link, change);
    }

    /// Cuts these links: what is sent on them waits.
    pub fn cut(&self, links: &[Link]) {
        for link in links {
            self.change(*link, |rule| rule.cut = true);
        }
    }

    /// Takes every rule away. What waits is delivered.
    pub fn heal(&self) {
        self.table.heal();
    }

    /// Resets all connections between two nodes.
    pub fn reset(&self, one: u16, other: u16) {
        for link in [Link::new(one, other), Link::new(other, one)] {
            self.table.reset(link);
        }
    }

    /// Sends the beginning of the last connection that has ended on this link once more, on a
    /// connection of its own. Returns how many bytes that were; `None` if none has ended yet.
    pub async fn replay(&self, link: Link) -> anyhow::Result<Option<usize>> {
        let Some(bytes) = self.table.beginning_of_last(link) else { return Ok(None) };
        let target = self.doors().get(&link.to).map(|door| door.target).context("no such node")?;
        let mut stream = TcpStream::connect(target).await.context("no connection for a replay")?;
        let read_answers = async {
            let (mut answers, mut requests) = stream.split();
            tokio::io::AsyncWriteExt::write_all(&mut requests, &bytes).await?;
            let mut read = vec![0; 16 << 10];
            while answers.read(&mut read).await? > 0 {}
            std::io::Result::Ok(())
        };
        // The node may refuse what comes twice; how it ends is for its own state to show.
        let _ = tokio::time::timeout(REPLAY_LIMIT, read_answers).await;
        self.table.count(link, |seen| seen.replayed_bytes += bytes.len() as u64);
        Ok(Some(bytes.len()))
    }

    /// What a link has done so far.
    pub fn seen(&self, link: Link) -> Seen {
        self.table.seen(link)
    }

    fn doors(&self) -> MutexGuard<'_, BTreeMap<u16, Door>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // A runtime must not be awaited on a thread of another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let socket = TcpSocket::new_v4().context("no socket")?;
    // The port is open again right after its last connections.
    socket.set_reuseaddr(true).context("cannot reuse the address")?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).with_context(|| format!("cannot bind door {port}"))?;
    socket.listen(BACKLOG).context("cannot listen")
}

/// Passes on connections to `to` until it is aborted; the connections end with it.
async fn accept(listener: TcpListener, to: u16, target: SocketAddr, table: Arc<Table>, owners: Arc<Owners>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Out of descriptors, or the caller has gone: the next one may come through.
                let Ok((client, peer)) = accepted else { continue };
                let (table, owners) = (Arc::clone(&table), Arc::clone(&owners));
                connections.spawn(async move {
                    // A process that has ended meanwhile has no connection to carry.
                    let Some(from) = owners.find(peer).await else { return };
                    Connection::new(Link::new(from, to), client, target, table).run().await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

#[cfg(test)]
mod tests;
