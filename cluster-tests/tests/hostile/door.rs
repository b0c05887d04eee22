//! Connections to a node, plain or with TLS, as a stranger opens them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::client;
use headwater_cluster_tests::cluster::Cluster;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// A connection that does not come about by then is none.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A node that has taken nothing by then does not want more.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// What is sent at a time.
const PIECE_BYTES: usize = 64 << 10;

/// What is not read stays in the node, and not in buffers of this machine.
const SMALL_BUFFER_BYTES: u32 = 8 << 10;

/// The bytes of a connection.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// A connection to a node.
pub(crate) type Connection = Box<dyn Wire>;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// The port of a node for clients.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// With TLS.
    tls: Option<Arc<ClientConfig>>,
    /// The size of the buffer for what comes, instead of what the system gives.
    buffer_bytes: Option<u32>,
}

impl Door {
    /// The port of a node of this cluster.
    pub(crate) fn of(cluster: &Cluster, id: u16) -> anyhow::Result<Self> {
        let base = cluster.base(id);
        let (scheme, address) = base.split_once("://").context("not a base")?;
        let tls = (scheme == "https")
            .then(|| client::tls(cluster.certificates()?.authorities()).map(Arc::new))
            .transpose()?;
        Ok(Self { address: address.parse().context("not an address")?, tls, buffer_bytes: None })
    }

    /// The same port for those who do not read what comes.
    pub(crate) fn with_small_buffers(&self) -> Self {
        Self { buffer_bytes: Some(SMALL_BUFFER_BYTES), ..self.clone() }
    }

    /// Whether clients speak TLS, and so may choose HTTP/2.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A bare connection, whatever is spoken behind the door.
    pub(crate) async fn knock(&self) -> anyhow::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = self.buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = tokio::time::timeout(CONNECT_LIMIT, socket.connect(self.address)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A connection on which this protocol is agreed.
    pub(crate) async fn connect(&self, protocol: Protocol) -> anyhow::Result<Connection> {
        let stream = self.knock().await?;
        let Some(tls) = &self.tls else {
            anyhow::ensure!(protocol == Protocol::Http1, "HTTP/2 needs TLS");
            return Ok(Box::new(stream));
        };
        let mut tls = ClientConfig::clone(tls);
        tls.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        let name = ServerName::from(self.address.ip());
        let handshake = TlsConnector::from(Arc::new(tls)).connect(name, stream);
        Ok(Box::new(tokio::time::timeout(CONNECT_LIMIT, handshake).await??))
    }

    /// The beginning of a request over HTTP/1.1.
    pub(crate) fn request_line(&self, method: &str, path: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address)
    }

    /// Sends a whole request on a connection of its own and returns the whole answer.
    pub(crate) async fn exchange(&self, head: &str, body: &[u8]) -> anyhow::Result<String> {
        let mut connection = self.connect(Protocol::Http1).await?;
        let length = body.len();
        connection.write_all(format!("{head}Connection: close\r\nContent-Length: {length}\r\n\r\n").as_bytes()).await?;
        // A node that refuses a body may close before all of it was sent.
        let _ = connection.write_all(body).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(client::REQUEST_LIMIT, connection.read_to_end(&mut answer)).await?;
        anyhow::ensure!(!answer.is_empty(), "no answer: {read:?}");
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// Sends as much as the node takes: an attacker does not mind when it is refused.
pub(crate) async fn push(connection: &mut Connection, bytes: &[u8]) {
    for piece in bytes.chunks(PIECE_BYTES) {
        let sent = async {
            connection.write_all(piece).await?;
            connection.flush().await
        };
        if !matches!(tokio::time::timeout(WRITE_LIMIT, sent).await, Ok(Ok(()))) {
            return;
        }
    }
}
