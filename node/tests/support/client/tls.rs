//! The same client over TLS, in either version of HTTP.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use super::super::PATIENCE;
use super::{Answer, connect, exchange};

/// The version of HTTP that TLS negotiates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

type Known = HashMap<String, (Arc<ClientConfig>, Version)>;

/// How to talk to a host.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// From now on [`super::send`] trusts this CA at this `host:port`, and talks this version of HTTP.
pub(crate) fn trust(host: &str, ca_pem: &str, version: Version) {
    KNOWN.lock().unwrap().insert(host.to_owned(), (client_config(ca_pem, version), version));
}

/// TLS that trusts this CA alone and offers this version of HTTP alone.
pub(crate) fn client_config(ca_pem: &str, version: Version) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![match version {
        Version::Http1 => b"http/1.1".to_vec(),
        Version::Http2 => b"h2".to_vec(),
    }];
    Arc::new(config)
}

/// Sends a request on a connection of its own.
pub(crate) fn send(host: &str, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Answer {
    let (config, version) = KNOWN.lock().unwrap()[host].clone();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    match version {
        Version::Http1 => {
            let session = ClientConnection::new(config, name).unwrap();
            exchange(StreamOwned::new(session, connect(host)), host, method, path, headers, body)
        }
        Version::Http2 => {
            let mut request = http::Request::builder().method(method).uri(format!("https://{host}{path}"));
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let sent = async { tokio::time::timeout(PATIENCE, send_http_2(config, name, host, request)).await };
            runtime.block_on(sent).unwrap()
        }
    }
}

async fn send_http_2(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    host: &str,
    request: http::Request<Full<Bytes>>,
) -> Answer {
    let stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
    let connected = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.unwrap();
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let is_text = head.headers.get("content-type").is_some_and(|value| text(value).starts_with("text/plain"));
    // Among refusals there is one with a body of its own (contract/streams 1.3).
    let reason_is_body = is_text && head.status.as_u16() >= 400 && body != b"{}";
    Answer {
        status: head.status.as_u16(),
        reason: reason_is_body.then(|| String::from_utf8_lossy(&body).into_owned()),
        headers: head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body,
        reason_is_body,
    }
}
