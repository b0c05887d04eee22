//! Handshakes, each with a deadline and with the certificates that are loaded at that time.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{Certificates, HTTP_2};
use crate::config::NodeFiles;

/// How long a handshake may take. It needs two round trips and a signature; a slower one only
/// blocks a place.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// First byte of every TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a TLS connection was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The handshake took longer than [`HANDSHAKE_TIMEOUT`].
    #[error("it took longer than {HANDSHAKE_TIMEOUT:?}")]
    Timeout,
    /// The other end does not speak TLS. The connection is given back, so that the caller can
    /// explain.
    #[error("the other end does not speak TLS")]
    Plaintext(TcpStream),
    /// One of the two ends refused or broke off.
    #[error("{0}")]
    Refused(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// A valid certificate, but of the wrong server.
    #[error("{0}")]
    WrongServer(String),
    /// This process has no certificates; impossible if TLS was set up.
    #[error("no certificates are loaded")]
    NotLoaded,
}

impl HandshakeError {
    /// Whether an operator should look into it. Broken and stalled connections are common: a
    /// process that ends, a probe of the port.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Timeout | Self::Broken(_) => false,
            Self::Plaintext(_) | Self::Refused(_) | Self::WrongServer(_) | Self::NotLoaded => true,
        }
    }
}

/// The server side of HTTPS.
#[derive(Clone)]
pub(crate) struct HttpsAcceptor {
    certificates: Certificates,
}

impl HttpsAcceptor {
    pub(super) fn new(certificates: Certificates) -> Self {
        Self { certificates }
    }

    /// Makes a TLS connection on a new connection, and returns whether the client chose HTTP/2.
    ///
    /// # Errors
    /// The reason for the failure. The connection is closed then, unless the client speaks plain
    /// HTTP.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(server::TlsStream<TcpStream>, bool), HandshakeError> {
        self.accept_client(stream).await.inspect_err(|_| self.certificates.metrics().refused_with_client())
    }

    async fn accept_client(&self, stream: TcpStream) -> Result<(server::TlsStream<TcpStream>, bool), HandshakeError> {
        let handshake = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
                return Err(HandshakeError::Plaintext(stream));
            }
            let config = self.certificates.client_config().ok_or(HandshakeError::NotLoaded)?;
            TlsAcceptor::from(config).accept(stream).await.map_err(|error| refused(error, None))
        };
        let secure =
            tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| HandshakeError::Timeout)??;
        let is_http_2 = secure.get_ref().1.alpn_protocol() == Some(HTTP_2);
        Ok((secure, is_http_2))
    }
}

/// TLS between nodes, in both directions. Each end proves its server with a certificate of the
/// cluster's CA.
#[derive(Clone)]
pub(crate) struct NodeTls {
    certificates: Certificates,
}

impl NodeTls {
    pub(super) fn new(certificates: Certificates) -> Self {
        Self { certificates }
    }

    /// Accepts a connection from another node, and returns the id of its server.
    ///
    /// # Errors
    /// The reason for the failure; the connection is closed then.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(server::TlsStream<TcpStream>, u16), HandshakeError> {
        self.accept_node(stream).await.inspect_err(|_| self.certificates.metrics().refused_with_node())
    }

    async fn accept_node(&self, stream: TcpStream) -> Result<(server::TlsStream<TcpStream>, u16), HandshakeError> {
        let configs = self.certificates.node_configs().ok_or(HandshakeError::NotLoaded)?;
        let handshake = TlsAcceptor::from(configs.server.clone()).accept(stream);
        let handshake =
            tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| HandshakeError::Timeout)?;
        let secure = handshake.map_err(|error| self.refused(error))?;
        let shown = secure.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.ok_or_else(|| HandshakeError::WrongServer("it shows no certificate".to_owned()))?;
        let server = self.certificates.inner.names.server_of(shown).map_err(HandshakeError::WrongServer)?;
        Ok((secure, server))
    }

    /// Makes a TLS connection to the node of `server`, and to no other. The caller sets the
    /// deadline.
    ///
    /// # Errors
    /// The reason for the failure; the connection is closed then.
    pub(crate) async fn connect(
        &self,
        server: u16,
        stream: TcpStream,
    ) -> Result<client::TlsStream<TcpStream>, HandshakeError> {
        self.connect_node(server, stream).await.inspect_err(|_| self.certificates.metrics().refused_with_node())
    }

    async fn connect_node(
        &self,
        server: u16,
        stream: TcpStream,
    ) -> Result<client::TlsStream<TcpStream>, HandshakeError> {
        let names = &self.certificates.inner.names;
        let configs = self.certificates.node_configs().ok_or(HandshakeError::NotLoaded)?;
        let expected = names.server_name(server).map_err(HandshakeError::WrongServer)?;
        let handshake = TlsConnector::from(configs.client.clone()).connect(expected, stream);
        let handshake =
            tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| HandshakeError::Timeout)?;
        let secure = handshake.map_err(|error| self.refused(error))?;
        // The library has checked that the certificate names the server; this checks that it names
        // no other.
        let shown = secure.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.ok_or_else(|| HandshakeError::WrongServer("it shows no certificate".to_owned()))?;
        match names.server_of(shown).map_err(HandshakeError::WrongServer)? {
            named if named == server => Ok(secure),
            named => Err(HandshakeError::WrongServer(format!("this is server {named}, not server {server}"))),
        }
    }

    /// Waits until the other end has accepted this node's certificate. It checks the certificate
    /// after the caller's handshake is done (TLS 1.3): a refusal arrives instead of its first
    /// bytes, which stay in the stream. Only for protocols in which the other end speaks first,
    /// such as HTTP/2.
    ///
    /// # Errors
    /// The refusal, or the end of the connection.
    pub(crate) async fn confirm(&self, stream: &mut client::TlsStream<TcpStream>) -> Result<(), HandshakeError> {
        let first = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.fill_buf()).await;
        match first.map_err(|_| HandshakeError::Timeout)?.map_err(|error| self.refused(error))? {
            [] => Err(HandshakeError::Refused("the other end closed the connection".to_owned())),
            _ => Ok(()),
        }
    }

    fn refused(&self, error: io::Error) -> HandshakeError {
        refused(error, self.certificates.inner.files.for_nodes())
    }
}

/// Tells which end caused the failure, and which file to check.
fn refused(error: io::Error, files: Option<NodeFiles<'_>>) -> HandshakeError {
    use AlertDescription as Alert;
    let found = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let explanation = match (found, files) {
        (None, _) => return HandshakeError::Broken(error),
        (Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)), _) => {
            "the other end does not speak TLS".to_owned()
        }
        (Some(Error::NoCertificatesPresented), _) => "the other end shows no certificate".to_owned(),
        (Some(Error::InvalidCertificate(error)), Some(files)) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("its certificate was not issued by a CA in {}", files.ca.display())
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                let on = i64::try_from(not_after.as_secs()).ok().and_then(|at| Timestamp::from_second(at).ok());
                on.map_or_else(
                    || "its certificate has expired".to_owned(),
                    |on| format!("its certificate expired on {on}"),
                )
            }
            other => format!("its {other}"),
        },
        (
            Some(Error::AlertReceived(
                alert @ (Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::CertificateRequired
                | Alert::DecryptError
                | Alert::AccessDenied),
            )),
            Some(files),
        ) => format!("the other end refuses the certificate in {}: {alert:?}", files.pair.certificate.display()),
        (Some(other), _) => other.to_string(),
    };
    HandshakeError::Refused(explanation)
}
