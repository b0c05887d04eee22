//! A port that a node has for itself, before it is opened.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// The address of a port. Until it is opened, connections are refused, which tells clients and
/// balancers at once to try another node.
pub(super) struct TakenPort {
    socket: TcpSocket,
    address: SocketAddr,
    /// The option that names the address.
    option: &'static str,
}

impl TakenPort {
    /// # Errors
    /// The address is in use, or not one of this machine.
    pub(super) fn take(address: SocketAddr, option: &'static str) -> anyhow::Result<Self> {
        let socket = bind(address).with_context(|| refusal(address, option))?;
        Ok(Self { socket, address, option })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Must run inside a tokio runtime.
    ///
    /// # Errors
    /// Another process has opened the port.
    pub(super) fn open(self) -> anyhow::Result<TcpListener> {
        self.socket.listen(BACKLOG).with_context(|| refusal(self.address, self.option))
    }
}

/// The address without the port being opened. Others may take it as well, until one of them opens
/// the port.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of the last process, which the kernel still remembers, are not in the way.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn refusal(address: SocketAddr, option: &str) -> String {
    format!("cannot listen on {address}: stop the process that uses it, or change {option}")
}
