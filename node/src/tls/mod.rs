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
        warn(&loaded, now);
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
        warn(&loaded, now);
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

/// Warns the operator of later problems.
fn warn(loaded: &Loaded, now: Timestamp) {
    warn_of_expiry(&loaded.expiries, now);
    for path in &loaded.open_keys {
        tracing::warn!(file = %path.display(), "every user of this machine may read this private key: chmod 600 it");
    }
}

fn warn_of_expiry(expiries: &[Expiry], now: Timestamp) {
    for Expiry { path, at } in expiries {
        let left = at.duration_since(now);
        if left.is_negative() {
            tracing::error!(
                file = %path.display(),
                expired = %at,
                "a certificate has expired and is no longer accepted: replace it and send this process SIGHUP (docs/security.md)"
            );
        } else if left < EXPIRY_WARNING {
            tracing::warn!(
                file = %path.display(),
                expires = %at,
                days_left = left.as_hours() / 24,
                "a certificate expires soon: replace it and send this process SIGHUP (docs/security.md)"
            );
        }
    }
}
