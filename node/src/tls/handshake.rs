//! Handshakes, each with a deadline and with the certificates that are loaded at the time.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{Certificates, HTTP_2};
use crate::config::NodeFiles;

/// How long a handshake may take. Two round trips and a signature; what takes longer ties up a
/// place for nothing.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// First byte of every TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Not done within [`HANDSHAKE_TIMEOUT`].
    #[error("it took longer than {HANDSHAKE_TIMEOUT:?}")]
    Timeout,
    /// The other side speaks something else; the connection is given back for a word of
    /// explanation.
    #[error("the other side does not speak TLS")]
    Plaintext(TcpStream),
    /// Refused by one of the two sides, or broken off.
    #[error("{0}")]
    Refused(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// A valid certificate of the wrong server.
    #[error("{0}")]
    WrongServer(String),
    /// This process has no certificates; impossible where TLS was set up.
    #[error("no certificates are loaded")]
    NotLoaded,
}

impl HandshakeError {
    /// Whether somebody should look into it. Connections that break or stall are everyday: a
    /// process that ends, a probe of the port.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Timeout | Self::Broken(_) => false,
            Self::Plaintext(_) | Self::Refused(_) | Self::WrongServer(_) | Self::NotLoaded => true,
        }
    }
}

/// The server side of HTTPS.
#[derive(Clone)]
pub struct HttpsAcceptor {
    certificates: Certificates,
}

impl HttpsAcceptor {
    pub(super) fn new(certificates: Certificates) -> Self {
        Self { certificates }
    }

    /// Makes a TLS connection of a fresh one, and says whether the client chose HTTP/2.
    ///
    /// # Errors
    /// Whatever kept it from being made; the connection is closed then, unless the client speaks
    /// plain HTTP.
    pub async fn accept(&self, stream: TcpStream) -> Result<(server::TlsStream<TcpStream>, bool), HandshakeError> {
        self.shake_hands(stream).await.inspect_err(|_| self.certificates.metrics().refused_with_client())
    }

    async fn shake_hands(&self, stream: TcpStream) -> Result<(server::TlsStream<TcpStream>, bool), HandshakeError> {
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

/// TLS between nodes, both directions. Either side proves with a certificate of the cluster's CA
/// which server it is.
#[derive(Clone)]
pub struct NodeTls {
    certificates: Certificates,
}

impl NodeTls {
    pub(super) fn new(certificates: Certificates) -> Self {
        Self { certificates }
    }

    /// Accepts a connection of another node, and says which server that is.
    ///
    /// # Errors
    /// Whatever kept it from being made; the connection is closed then.
    pub async fn accept(&self, stream: TcpStream) -> Result<(server::TlsStream<TcpStream>, u16), HandshakeError> {
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
    /// Whatever kept it from being made; the connection is closed then.
    pub async fn connect(
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
        // The library has checked that the name of the server is among those of the certificate;
        // this, that no other server's is.
        let shown = secure.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.ok_or_else(|| HandshakeError::WrongServer("it shows no certificate".to_owned()))?;
        match names.server_of(shown).map_err(HandshakeError::WrongServer)? {
            named if named == server => Ok(secure),
            named => Err(HandshakeError::WrongServer(format!("this is server {named}, not server {server}"))),
        }
    }

    /// Waits until the other side has accepted this node's certificate. It looks at it after the
    /// caller's handshake is done (TLS 1.3): its refusal comes in place of its first bytes, which
    /// are left in the stream. Only for protocols in which it speaks first, such as HTTP/2.
    ///
    /// # Errors
    /// Its refusal, or the end of the connection.
    pub async fn confirm(&self, stream: &mut client::TlsStream<TcpStream>) -> Result<(), HandshakeError> {
        let first = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.fill_buf()).await;
        match first.map_err(|_| HandshakeError::Timeout)?.map_err(|error| self.refused(error))? {
            [] => Err(HandshakeError::Refused("the other side closed the connection".to_owned())),
            _ => Ok(()),
        }
    }

    fn refused(&self, error: io::Error) -> HandshakeError {
        refused(error, self.certificates.inner.files.for_nodes())
    }
}

/// Says whose fault it is, and which file to look at.
fn refused(error: io::Error, files: Option<NodeFiles<'_>>) -> HandshakeError {
    use AlertDescription as Alert;
    let found = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let said = match (found, files) {
        (None, _) => return HandshakeError::Broken(error),
        (Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)), _) => {
            "the other side does not speak TLS".to_owned()
        }
        (Some(Error::NoCertificatesPresented), _) => "the other side shows no certificate".to_owned(),
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
        ) => format!("the other side refuses the certificate in {}: {alert:?}", files.pair.certificate.display()),
        (Some(other), _) => other.to_string(),
    };
    HandshakeError::Refused(said)
}
