//! Loads files into configurations of the TLS library, with every check that is possible before the
//! first handshake.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig, client, crypto, version,
};

use super::files::{self, Certificate, FileError, Purpose, Reason};
use super::names::ServerNames;
use crate::config::{KeyPair, NodeFiles, TlsFiles};

/// Protocols offered to clients, in order of preference.
const CLIENT_PROTOCOLS: [&[u8]; 2] = [super::HTTP_2, b"http/1.1"];

/// The end of validity of a file, for warnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expiry {
    /// The file.
    pub(crate) path: PathBuf,
    /// The earliest end of validity in it.
    pub(crate) at: Timestamp,
}

/// The result of loading the files once.
pub(super) struct Loaded {
    /// For HTTPS.
    pub(crate) clients: Option<Arc<ServerConfig>>,
    /// For other nodes.
    pub(crate) nodes: Option<Arc<NodeConfigs>>,
    /// The ends of validity.
    pub(crate) expiries: Vec<Expiry>,
    /// Keys that every user of this machine may read.
    pub(crate) open_keys: Vec<PathBuf>,
}

/// The configurations for both directions between nodes.
pub(super) struct NodeConfigs {
    /// For connections from other nodes.
    pub(crate) server: Arc<ServerConfig>,
    /// For connections to other nodes.
    pub(crate) client: Arc<ClientConfig>,
}

/// Loads and checks all configured files.
pub(super) fn load(files: &TlsFiles, names: &ServerNames, server_id: u16, now: Timestamp) -> Result<Loaded, FileError> {
    let mut loaded = Loaded { clients: None, nodes: None, expiries: Vec::new(), open_keys: Vec::new() };
    if let Some(pair) = files.for_clients() {
        let chain = read_chain(pair, Purpose::ClientCertificate, now, &mut loaded)?;
        loaded.clients = Some(Arc::new(for_clients(pair, chain)?));
    }
    if let Some(node_files) = files.for_nodes() {
        let chain = read_chain(node_files.pair, Purpose::NodeCertificate, now, &mut loaded)?;
        let roots = read_roots(&node_files, now, &mut loaded)?;
        check_name(&node_files, &chain, &names.of(server_id))?;
        loaded.nodes = Some(Arc::new(for_nodes(&node_files, chain, roots, names, server_id, now)?));
    }
    Ok(loaded)
}

/// Cryptography by ring, which needs only a C compiler.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

fn read_chain(
    pair: KeyPair<'_>,
    purpose: Purpose,
    now: Timestamp,
    loaded: &mut Loaded,
) -> Result<Vec<Certificate>, FileError> {
    let chain = files::read_certificates(pair.certificate, purpose)?;
    for certificate in &chain {
        certificate.check_validity(now).map_err(|reason| refused(pair, purpose, reason))?;
    }
    loaded.note_expiry(pair.certificate.to_owned(), &chain);
    if files::is_open_to_all(pair.key) == Some(true) && !loaded.open_keys.iter().any(|known| known == pair.key) {
        loaded.open_keys.push(pair.key.to_owned());
    }
    Ok(chain)
}

impl Loaded {
    fn note_expiry(&mut self, path: PathBuf, certificates: &[Certificate]) {
        let Some(at) = certificates.iter().map(|certificate| certificate.not_after).min() else { return };
        if !self.expiries.iter().any(|known| known.path == path) {
            self.expiries.push(Expiry { path, at });
        }
    }
}

/// The CAs that vouch for nodes. During a change of the CA the file holds both the old and the new
/// one. An expired CA is ignored, and is not a reason to refuse the other.
fn read_roots(files: &NodeFiles<'_>, now: Timestamp, loaded: &mut Loaded) -> Result<Arc<RootCertStore>, FileError> {
    let error = |reason| FileError { path: files.ca.to_owned(), purpose: Purpose::Authority, reason };
    let all = files::read_certificates(files.ca, Purpose::Authority)?;
    let (valid, outside): (Vec<_>, Vec<_>) = all.into_iter().partition(|ca| ca.check_validity(now).is_ok());
    if valid.is_empty() {
        let reason = outside.first().and_then(|ca| ca.check_validity(now).err()).unwrap_or(Reason::NoCertificate);
        return Err(error(reason));
    }
    loaded.note_expiry(files.ca.to_owned(), &valid);
    let mut roots = RootCertStore::empty();
    for ca in valid {
        roots.add(ca.der).map_err(|found| error(Reason::Refused(found.to_string())))?;
    }
    Ok(Arc::new(roots))
}

fn check_name(files: &NodeFiles<'_>, chain: &[Certificate], expected: &str) -> Result<(), FileError> {
    let names = chain.first().map(|leaf| &leaf.names[..]).unwrap_or_default();
    if names.iter().any(|name| name.eq_ignore_ascii_case(expected)) {
        return Ok(());
    }
    let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let reason = Reason::OtherName { expected: expected.to_owned(), found };
    Err(refused(files.pair, Purpose::NodeCertificate, reason))
}

/// Combines key and chain; the key must belong to the first certificate.
fn certified_key(pair: KeyPair<'_>, chain: Vec<Certificate>) -> Result<Arc<CertifiedKey>, FileError> {
    let error = |reason| FileError { path: pair.key.to_owned(), purpose: Purpose::Key, reason };
    let key = files::read_key(pair.key)?;
    let chain = chain.into_iter().map(|certificate| certificate.der).collect();
    let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|found| {
        error(match found {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Reason::OtherKey(pair.certificate.to_owned()),
            other => Reason::UnusableKey(other.to_string()),
        })
    })?;
    Ok(Arc::new(certified))
}

fn for_clients(pair: KeyPair<'_>, chain: Vec<Certificate>) -> Result<ServerConfig, FileError> {
    let certified = certified_key(pair, chain)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        // Nothing older: 1.0 and 1.1 are insecure (RFC 8996), and the library does not support
        // them.
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|error| refused(pair, Purpose::ClientCertificate, Reason::Refused(error.to_string())))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = CLIENT_PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn for_nodes(
    files: &NodeFiles<'_>,
    chain: Vec<Certificate>,
    roots: Arc<RootCertStore>,
    names: &ServerNames,
    server_id: u16,
    now: Timestamp,
) -> Result<NodeConfigs, FileError> {
    let pair = files.pair;
    let unusable =
        |error: &dyn std::fmt::Display| refused(pair, Purpose::NodeCertificate, Reason::Refused(error.to_string()));
    let verify_clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
        .build()
        .map_err(|error| unusable(&error))?;
    let verify_servers =
        WebPkiServerVerifier::builder_with_provider(roots, provider()).build().map_err(|error| unusable(&error))?;

    // The checks that the other nodes make at each handshake are made here first, where the message
    // reaches the operator who can correct the file.
    let (leaf, intermediates) = split(&chain).ok_or_else(|| unusable(&Reason::NoCertificate))?;
    let own_name = names.server_name(server_id).map_err(|error| unusable(&error))?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_second().max(0).unsigned_abs()));
    let as_server = verify_servers.verify_server_cert(&leaf, &intermediates, &own_name, &[], at).map(|_| ());
    let as_client = verify_clients.verify_client_cert(&leaf, &intermediates, at).map(|_| ());
    as_server.and(as_client).map_err(|error| {
        let reason = match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                Reason::OtherAuthority(files.ca.to_owned())
            }
            other => Reason::Refused(other.to_string()),
        };
        refused(pair, Purpose::NodeCertificate, reason)
    })?;

    let certified = certified_key(pair, chain)?;
    let mut server = ServerConfig::builder_with_provider(provider())
        // Both ends are Headwater.
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| unusable(&error))?
        .with_client_cert_verifier(verify_clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified.clone())));
    server.alpn_protocols = vec![super::HTTP_2.to_vec()];
    // A resumed session would rely on a certificate that was checked at another time. Nodes connect
    // rarely, so each handshake is a full one.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| unusable(&error))?
        .with_webpki_verifier(verify_servers)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    client.alpn_protocols = vec![super::HTTP_2.to_vec()];
    client.resumption = client::Resumption::disabled();
    Ok(NodeConfigs { server: Arc::new(server), client: Arc::new(client) })
}

fn split(chain: &[Certificate]) -> Option<(CertificateDer<'static>, Vec<CertificateDer<'static>>)> {
    let (leaf, rest) = chain.split_first()?;
    Some((leaf.der.clone(), rest.iter().map(|certificate| certificate.der.clone()).collect()))
}

fn refused(pair: KeyPair<'_>, purpose: Purpose, reason: Reason) -> FileError {
    FileError { path: pair.certificate.to_owned(), purpose, reason }
}
