//! TLS for clients and between nodes: loading certificates, checking them, replacing them while the
//! node runs, and handshakes.
//!
//! The options are in [`crate::config::TlsFiles`]. Clients see one certificate and show none. Nodes
//! show each other certificates of the cluster's own CA, in both directions, and each certificate
//! names its server ([`ServerNames`]).

mod create;
#[cfg(test)]
mod create_tests;
mod files;
mod handshake;
mod load;
mod metrics;
mod names;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

pub(crate) use create::run as run_certs;
pub use create::{Authority, CreateError};
pub use files::{FileError, Purpose, Reason};
pub(crate) use handshake::{HANDSHAKE_TIMEOUT, HandshakeError, HttpsAcceptor, NodeTls};
use load::{Expiry, Loaded, NodeConfigs};
use metrics::TlsMetrics;
pub use names::ServerNames;

use crate::config::TlsFiles;

/// How often a running node checks whether a certificate expires soon.
const REMIND_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

/// A warning is logged when a certificate expires within this time.
pub(crate) const EXPIRY_WARNING: SignedDuration = SignedDuration::from_hours(30 * 24);

/// HTTP/2 in protocol negotiation.
pub(crate) const HTTP_2: &[u8] = b"h2";

/// The certificates of this node as last loaded. Cheap to clone; all clones see a reload.
#[derive(Clone)]
pub(crate) struct Certificates {
    inner: Arc<Inner>,
}

struct Inner {
    files: TlsFiles,
    names: ServerNames,
    server_id: u16,
    clients: Option<ArcSwap<ServerConfig>>,
    nodes: Option<ArcSwap<NodeConfigs>>,
    /// The ends of validity of the certificates in use.
    expiries: ArcSwap<Vec<Expiry>>,
    metrics: TlsMetrics,
}

impl Certificates {
    /// Loads the files in `files` for the server with this id, and warns of certificates that
    /// expire soon. Reads files.
    ///
    /// # Errors
    /// The first unusable file, and why.
    pub(crate) fn load(files: &TlsFiles, server_id: u16) -> Result<Self, FileError> {
        let names = ServerNames::new(files.cluster_name.clone());
        let now = Timestamp::now();
        let loaded = load::load(files, &names, server_id, now)?;
        concerns(&loaded, now).iter().for_each(|concern| warn(concern, now));
        let metrics = TlsMetrics::default();
        metrics.loaded(&loaded.expiries);
        let inner = Inner {
            expiries: ArcSwap::from_pointee(loaded.expiries),
            metrics,
            files: files.clone(),
            names,
            server_id,
            clients: loaded.clients.map(ArcSwap::from),
            nodes: loaded.nodes.map(ArcSwap::from),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Loads the same files again. New handshakes use the new content; open connections stay as
    /// they are. All files or none: when one is unusable, nothing changes.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn reload(&self) -> Result<(), FileError> {
        let Inner { files, names, server_id, clients, nodes, expiries, metrics } = &*self.inner;
        let now = Timestamp::now();
        let loaded = load::load(files, names, *server_id, now)?;
        concerns(&loaded, now).iter().for_each(|concern| warn(concern, now));
        if let (Some(current), Some(new)) = (clients, loaded.clients) {
            current.store(new);
        }
        if let (Some(current), Some(new)) = (nodes, loaded.nodes) {
            current.store(new);
        }
        metrics.loaded(&loaded.expiries);
        for Expiry { path, at } in &loaded.expiries {
            tracing::info!(file = %path.display(), valid_until = %at, "loaded the certificates again");
        }
        expiries.store(Arc::new(loaded.expiries));
        Ok(())
    }

    /// Checks every day for certificates that expire soon, until `stop`: a node may run longer than
    /// its certificates are valid.
    pub(crate) async fn remind(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(REMIND_INTERVAL) => warn_of_expiry(&self.inner.expiries.load(), Timestamp::now()),
            }
        }
    }

    /// TLS for clients, if there is a certificate for it.
    pub(crate) fn for_clients(&self) -> Option<HttpsAcceptor> {
        self.inner.clients.is_some().then(|| HttpsAcceptor::new(self.clone()))
    }

    /// TLS between nodes, if there are certificates for it.
    pub(crate) fn for_nodes(&self) -> Option<NodeTls> {
        self.inner.nodes.is_some().then(|| NodeTls::new(self.clone()))
    }

    /// Counters of handshakes and the ends of validity.
    pub(crate) fn metrics(&self) -> &TlsMetrics {
        &self.inner.metrics
    }

    fn client_config(&self) -> Option<Arc<ServerConfig>> {
        self.inner.clients.as_ref().map(ArcSwap::load_full)
    }

    fn node_configs(&self) -> Option<Arc<NodeConfigs>> {
        self.inner.nodes.as_ref().map(ArcSwap::load_full)
    }
}

/// A file that can be used, and what will be wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Concern {
    /// Its CA has expired, and the certificates of that CA with it.
    Expired(PathBuf, Timestamp),
    /// It expires within [`EXPIRY_WARNING`].
    ExpiresSoon(PathBuf, Timestamp),
    /// Every user of this machine may read this private key.
    OpenKey(PathBuf),
}

impl std::fmt::Display for Concern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expired(path, at) => {
                write!(f, "{}: a certificate has expired on {at}; replace it (docs/security.md)", path.display())
            }
            Self::ExpiresSoon(path, at) => {
                write!(f, "{}: a certificate expires on {at}; replace it before (docs/security.md)", path.display())
            }
            Self::OpenKey(path) => {
                write!(f, "every user of this machine may read the private key {}: chmod 600 it", path.display())
            }
        }
    }
}

/// What loading these files finds: what a node would refuse, and what it would warn of.
pub(crate) fn check(files: &TlsFiles, server_id: u16) -> (Vec<FileError>, Vec<Concern>) {
    let now = Timestamp::now();
    let names = ServerNames::new(files.cluster_name.clone());
    let for_clients = TlsFiles { ca_file: None, ..files.clone() };
    let for_nodes = files.for_nodes().map(|nodes| TlsFiles {
        cert_file: None,
        key_file: None,
        node_cert_file: Some(nodes.pair.certificate.to_owned()),
        node_key_file: Some(nodes.pair.key.to_owned()),
        ..files.clone()
    });
    let load = |files: &TlsFiles| load::load(files, &names, server_id, now);
    let mut unusable: Vec<FileError> =
        std::iter::once(for_clients).chain(for_nodes).filter_map(|files| load(&files).err()).collect();
    // Both may use the same files.
    unusable.dedup_by(|second, first| second.path == first.path);
    let concerns = load(files).map(|loaded| concerns(&loaded, now)).unwrap_or_default();
    (unusable, concerns)
}

fn concerns(loaded: &Loaded, now: Timestamp) -> Vec<Concern> {
    let of_time = loaded.expiries.iter().filter_map(|expiry| of_expiry(expiry, now));
    of_time.chain(loaded.open_keys.iter().cloned().map(Concern::OpenKey)).collect()
}

fn of_expiry(Expiry { path, at }: &Expiry, now: Timestamp) -> Option<Concern> {
    let left = at.duration_since(now);
    if left.is_negative() {
        Some(Concern::Expired(path.clone(), *at))
    } else {
        (left < EXPIRY_WARNING).then(|| Concern::ExpiresSoon(path.clone(), *at))
    }
}

/// Warns the operator of later problems.
fn warn(concern: &Concern, now: Timestamp) {
    match concern {
        Concern::Expired(path, at) => tracing::error!(
            file = %path.display(),
            expired = %at,
            "a certificate has expired and is no longer accepted: replace it and send this process SIGHUP (docs/security.md)"
        ),
        Concern::ExpiresSoon(path, at) => tracing::warn!(
            file = %path.display(),
            expires = %at,
            days_left = at.duration_since(now).as_hours() / 24,
            "a certificate expires soon: replace it and send this process SIGHUP (docs/security.md)"
        ),
        Concern::OpenKey(path) => {
            tracing::warn!(file = %path.display(), "every user of this machine may read this private key: chmod 600 it");
        }
    }
}

fn warn_of_expiry(expiries: &[Expiry], now: Timestamp) {
    expiries.iter().filter_map(|expiry| of_expiry(expiry, now)).for_each(|concern| warn(&concern, now));
}
