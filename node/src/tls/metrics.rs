//! Metrics of certificates and handshakes.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::load::Expiry;

/// A file, as label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct File {
    file: String,
}

/// The kind of the other end of a handshake, as label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Side {
    with: &'static str,
}

/// Counters and gauges of this room. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsMetrics {
    expiry: Family<File, Gauge>,
    refused: Family<Side, Counter>,
}

impl TlsMetrics {
    /// Registers the metrics; their names get the prefix of the registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let expiry = "When the certificate in a file that is in use expires, in seconds since 1970";
        registry.register_with_unit("tls_certificate_expiry", expiry, Unit::Seconds, self.expiry.clone());
        let refused = "TLS handshakes that came to nothing";
        registry.register("tls_handshakes_refused", refused, self.refused.clone());
    }

    pub(super) fn loaded(&self, expiries: &[Expiry]) {
        self.expiry.clear();
        for Expiry { path, at } in expiries {
            let file = File { file: path.display().to_string() };
            self.expiry.get_or_create(&file).set(at.as_second());
        }
    }

    /// Counts a failed handshake with a client.
    pub(super) fn refused_with_client(&self) {
        self.refused.get_or_create(&Side { with: "client" }).inc();
    }

    /// Counts a failed handshake with another node, in either direction.
    pub(super) fn refused_with_node(&self) {
        self.refused.get_or_create(&Side { with: "node" }).inc();
    }
}
