//! The options for TLS: the files, and which of them belong together.

use std::path::{Path, PathBuf};

use super::{ConfigError, Flags, contradiction};

/// The files for TLS, as configured. [`Self::for_clients`] and [`Self::for_nodes`] say what each is
/// for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate shown to clients, and to other nodes unless they have one of their own.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// Certificates of the cluster's own CA; with it the nodes use TLS among themselves.
    pub ca_file: Option<PathBuf>,
    /// Certificate shown to other nodes.
    pub node_cert_file: Option<PathBuf>,
    /// Its private key.
    pub node_key_file: Option<PathBuf>,
    /// Name of the cluster in the certificates of its nodes, when several clusters share one CA.
    pub cluster_name: Option<String>,
}

/// A certificate and its private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPair<'a> {
    /// PEM: the certificate, then intermediate ones.
    pub certificate: &'a Path,
    /// PEM: the private key of the first certificate.
    pub key: &'a Path,
}

/// The files that nodes need for TLS among themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeFiles<'a> {
    /// This node's certificate and key.
    pub pair: KeyPair<'a>,
    /// PEM: one or more CA certificates.
    pub ca: &'a Path,
}

impl TlsFiles {
    /// The certificate for HTTPS; `None`: clients use plain HTTP.
    pub fn for_clients(&self) -> Option<KeyPair<'_>> {
        pair(&self.cert_file, &self.key_file)
    }

    /// The files for TLS between nodes; `None`: nodes use plain connections.
    pub fn for_nodes(&self) -> Option<NodeFiles<'_>> {
        let pair = pair(&self.node_cert_file, &self.node_key_file).or(self.for_clients())?;
        Some(NodeFiles { pair, ca: self.ca_file.as_deref()? })
    }

    /// Takes the options and refuses those that lack another option.
    pub(super) fn from_flags(flags: &Flags) -> Result<Self, ConfigError> {
        let files = Self {
            cert_file: flags.tls_cert_file.clone(),
            key_file: flags.tls_key_file.clone(),
            ca_file: flags.tls_ca_file.clone(),
            node_cert_file: flags.node_tls_cert_file.clone(),
            node_key_file: flags.node_tls_key_file.clone(),
            cluster_name: flags.tls_cluster_name.clone(),
        };
        files.check().map_err(contradiction)?;
        Ok(files)
    }

    fn check(&self) -> Result<(), String> {
        needs("--tls-cert-file", &self.cert_file, "--tls-key-file", &self.key_file)?;
        needs("--tls-key-file", &self.key_file, "--tls-cert-file", &self.cert_file)?;
        needs("--node-tls-cert-file", &self.node_cert_file, "--node-tls-key-file", &self.node_key_file)?;
        needs("--node-tls-key-file", &self.node_key_file, "--node-tls-cert-file", &self.node_cert_file)?;
        needs("--node-tls-cert-file", &self.node_cert_file, "--tls-ca-file", &self.ca_file)?;
        needs("--tls-cluster-name", &self.cluster_name, "--tls-ca-file", &self.ca_file)?;
        if self.ca_file.is_some() && self.for_nodes().is_none() {
            return Err("--tls-ca-file says which nodes to trust, but this node has no certificate to show them; add \
                        --tls-cert-file and --tls-key-file, or --node-tls-cert-file and --node-tls-key-file where \
                        clients shall go on with plain HTTP"
                .to_owned());
        }
        Ok(())
    }
}

fn pair<'a>(certificate: &'a Option<PathBuf>, key: &'a Option<PathBuf>) -> Option<KeyPair<'a>> {
    Some(KeyPair { certificate: certificate.as_deref()?, key: key.as_deref()? })
}

fn needs<A, B>(flag: &str, given: &Option<A>, other_flag: &str, other: &Option<B>) -> Result<(), String> {
    if given.is_some() && other.is_none() {
        Err(format!("{flag} is of no use without {other_flag}; add it or remove {flag}"))
    } else {
        Ok(())
    }
}
