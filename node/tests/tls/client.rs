//! An HTTPS client that shows the negotiated certificate and version.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::support::PATIENCE;
use super::support::client::ADMIN;
use super::support::client::tls::{Version, client_config};

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One connection.
pub(crate) struct Connection {
    sender: Sender,
    address: String,
    /// The certificate that the server showed.
    pub(crate) certificate: CertificateDer<'static>,
}

/// An answer whose body was read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Makes a TLS connection to `address`, offering this version alone and trusting this CA.
async fn secure(address: &str, ca_pem: &str, version: Version) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(client_config(ca_pem, version)).connect(name, stream).await
}

/// Asks for `path` over HTTP/2 as an administrator, makes no room for more than a byte of the
/// answer, and waits until the server has enough of that.
pub(crate) async fn read_nothing(address: &str, ca_pem: &str, method: &str, path: &str) {
    let io = TokioIo::new(secure(address, ca_pem, Version::Http2).await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.initial_stream_window_size(1).handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(format!("https://{address}{path}"))
        .header("authorization", ADMIN)
        .body(Full::<Bytes>::default())
        .unwrap();
    let unread = sender.send_request(request).await.unwrap();
    assert_eq!(unread.status(), 200);
    let ended = tokio::time::timeout(PATIENCE, connection).await.expect("the connection was kept");
    assert!(ended.unwrap().is_err(), "cut off, not closed in order");
}

/// Asks for `path` over HTTP/2, takes the beginning of the answer, waits for `meanwhile`, and takes
/// the rest: how much came in all, and whether the server called that complete.
pub(crate) async fn read_in_two_steps(
    address: &str,
    ca_pem: &str,
    path: &str,
    meanwhile: impl Future<Output = ()>,
) -> (usize, bool) {
    const WINDOW_BYTES: u32 = 64 * 1024;
    let io = TokioIo::new(secure(address, ca_pem, Version::Http2).await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    let (mut sender, connection) = builder.handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("https://{address}{path}"))
        .header("accept", "application/vnd.eventstore.atom+json")
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let mut bytes = body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    meanwhile.await;
    let rest = async {
        loop {
            match body.frame().await {
                Some(Ok(frame)) => bytes += frame.into_data().map_or(0, |data| data.len()),
                Some(Err(_)) => return (bytes, false),
                None => return (bytes, true),
            }
        }
    };
    tokio::time::timeout(PATIENCE, rest).await.expect("the answer ends")
}

/// Connects to `address`, offering this version alone and trusting this CA.
pub(crate) async fn connect(address: &str, ca_pem: &str, version: Version) -> std::io::Result<Connection> {
    let secure = secure(address, ca_pem, version).await?;
    let session = secure.get_ref().1;
    assert_eq!(session.alpn_protocol(), Some(if version == Version::Http2 { &b"h2"[..] } else { b"http/1.1" }));
    let certificate = session.peer_certificates().unwrap()[0].clone();
    let io = TokioIo::new(secure);
    let sender = match version {
        Version::Http1 => {
            let (sender, connection) = http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            Sender::Http1(sender)
        }
        Version::Http2 => {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Sender::Http2(sender)
        }
    };
    Ok(Connection { sender, address: address.to_owned(), certificate })
}

impl Connection {
    /// Whether the server has said that it takes no more requests on it.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request on this connection; an error means that the connection is gone.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, hyper::Error> {
        let mut request = http::Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let exchange = async {
            let answer = match &mut self.sender {
                Sender::Http1(sender) => {
                    let request = request.uri(path).header("host", &self.address).body(body).unwrap();
                    // The answer before is through when the connection says so.
                    sender.ready().await?;
                    sender.send_request(request).await?
                }
                Sender::Http2(sender) => {
                    let request = request.uri(format!("https://{}{path}", self.address)).body(body).unwrap();
                    sender.send_request(request).await?
                }
            };
            let (head, body) = answer.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time")
    }

    /// A second user of the same HTTP/2 connection.
    pub(crate) fn share(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else { panic!("HTTP/1.1 has one request at a time") };
        Self {
            sender: Sender::Http2(sender.clone()),
            address: self.address.clone(),
            certificate: self.certificate.clone(),
        }
    }

    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, "").await.unwrap()
    }

    /// Appends one event with a new id.
    pub(crate) async fn append(&mut self, stream: &str) -> Result<Answer, hyper::Error> {
        let id = uuid::Uuid::new_v4().to_string();
        let headers = [("content-type", "application/json"), ("es-eventtype", "t"), ("es-eventid", &*id)];
        self.send("POST", &format!("/streams/{stream}"), &headers, "{\"a\":1}").await
    }
}
