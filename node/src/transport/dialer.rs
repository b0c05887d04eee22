//! Connections to other nodes: settings of the channels, and the proof of the server at the other
//! end.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint, Error};

use super::traffic::{Counted, Ends, Traffic};
use crate::tls::{HandshakeError, NodeTls};

/// HTTP/2 window of one stream: the default of 64 KiB throttles pipelined appends.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// HTTP/2 window of a connection, which may carry several streams.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// How often an otherwise silent connection is pinged. Nothing else detects a peer that vanished
/// without closing (power, cable).
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// A ping unanswered for this long ends the connection.
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long connecting may take, TLS handshake included. A machine that is switched off does not
/// answer at all.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// What calls of one node to another go through.
pub(crate) trait PeerChannel:
    tower_service::Service<
        http::Request<Body>,
        Response = http::Response<Body>,
        Error: Into<tonic::codegen::StdError>,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> PeerChannel for T where
    T: tower_service::Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error: Into<tonic::codegen::StdError>,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// Makes channels to other nodes: [`Dialer`], and what stands for the network in a simulation.
pub(crate) trait Dial: Send + Sync + 'static {
    /// The channels.
    type Channel: PeerChannel;

    /// A channel to the node of `server` at `address` (`host:port`). It connects when first used,
    /// and again when a connection ends.
    fn channel(&self, server: u16, address: &str) -> Result<Self::Channel, Error>;
}

/// Makes channels to other nodes, in the clear or with TLS. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Dialer {
    tls: Option<NodeTls>,
    /// Failed handshakes that were logged.
    failures: Arc<HandshakeFailures>,
    traffic: Traffic,
}

impl Dialer {
    /// With TLS if it is given.
    pub(crate) fn new(tls: Option<NodeTls>) -> Self {
        Self { tls, failures: Arc::default(), traffic: Traffic::default() }
    }

    /// Counts the traffic of these channels.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

impl Dial for Dialer {
    type Channel = Channel;

    fn channel(&self, server: u16, address: &str) -> Result<Channel, Error> {
        // The connectors below decide on encryption: HTTP does not see the difference.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let traffic = self.traffic.clone();
        Ok(match &self.tls {
            None => endpoint.connect_with_connector_lazy(PlainConnector { server, traffic }),
            Some(tls) => {
                let secure = SecureConnector { tls: tls.clone(), server, failures: self.failures.clone(), traffic };
                endpoint.connect_with_connector_lazy(secure)
            }
        })
    }
}

type Connecting<S> = Pin<Box<dyn Future<Output = io::Result<TokioIo<Counted<S>>>> + Send>>;

async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Otherwise every hundredth small message waits 40 ms for the peer's delayed acknowledgement.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Attempts to find a port closed whose process has just ended: the kernel closes connections and
/// ports one after the other, and a busy machine takes its time. All of them take 1.3 seconds.
const REFUSAL_ATTEMPTS: u32 = 8;

/// The pause after the first of them; each later one is twice as long.
const REFUSAL_PAUSE: Duration = Duration::from_millis(5);

/// Whether the machine at `address` (`host:port`) answers and no process listens there: the one
/// that did has ended. A machine that does not answer proves nothing.
pub(crate) async fn is_refused(address: &str) -> bool {
    for attempt in 0..REFUSAL_ATTEMPTS {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return true,
            // A port that is being closed resets the connections that nobody has accepted.
            Ok(Err(error)) if error.kind() != io::ErrorKind::ConnectionReset => return false,
            Ok(_) => tokio::time::sleep(REFUSAL_PAUSE * 2_u32.pow(attempt)).await,
            Err(_) => return false,
        }
    }
    false
}

fn authority(address: &Uri) -> &str {
    address.authority().map(|authority| authority.as_str()).unwrap_or_default()
}

/// Connects in the clear.
#[derive(Clone)]
struct PlainConnector {
    server: u16,
    traffic: Traffic,
}

impl tower_service::Service<Uri> for PlainConnector {
    type Response = TokioIo<Counted<TcpStream>>;
    type Error = io::Error;
    type Future = Connecting<TcpStream>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let Self { server, traffic } = self.clone();
        Box::pin(async move {
            let stream = connect(authority(&address)).await?;
            let ends = Ends::of(&stream);
            Ok(TokioIo::new(traffic.outgoing(stream, ends, server, false)))
        })
    }
}

/// Connects to one server and verifies that it is that server.
#[derive(Clone)]
struct SecureConnector {
    tls: NodeTls,
    server: u16,
    failures: Arc<HandshakeFailures>,
    traffic: Traffic,
}

impl tower_service::Service<Uri> for SecureConnector {
    type Response = TokioIo<Counted<TlsStream<TcpStream>>>;
    type Error = io::Error;
    type Future = Connecting<TlsStream<TcpStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let Self { tls, server, failures, traffic } = self.clone();
        Box::pin(async move {
            let authority = authority(&address);
            let stream = connect(authority).await?;
            let ends = Ends::of(&stream);
            let connected = async {
                let mut secure = tls.connect(server, stream).await?;
                // A gRPC server speaks first.
                tls.confirm(&mut secure).await?;
                Ok::<_, HandshakeError>(secure)
            };
            match connected.await {
                Ok(secure) => {
                    failures.forget(server);
                    Ok(TokioIo::new(traffic.outgoing(secure, ends, server, true)))
                }
                Err(error) => {
                    if error.is_refusal() {
                        failures.log(server, authority, &error);
                    }
                    Err(io::Error::other(format!("TLS with server {server} at {authority}: {error}")))
                }
            }
        })
    }
}

/// The last failure for each server. Handshakes are tried again and again: a failure is logged
/// once, and again when its reason changes.
#[derive(Default)]
struct HandshakeFailures(Mutex<HashMap<u16, String>>);

impl HandshakeFailures {
    fn log(&self, server: u16, address: &str, error: &HandshakeError) {
        let reason = error.to_string();
        let before = self.0.lock().insert(server, reason.clone());
        if before.as_ref() != Some(&reason) {
            tracing::warn!(server, address, reason, "no TLS connection to another node");
        }
    }

    fn forget(&self, server: u16) {
        self.0.lock().remove(&server);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_a_port_without_a_process_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(!is_refused(&address).await);
        drop(listener);
        assert!(is_refused(&address).await);
        assert!(!is_refused("host.invalid:1").await, "a name that nobody knows");
    }
}
