//! The CAs that a subcommand trusts.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::ClientError;

/// Where Linux systems keep the certificates of the CAs that they trust, in one file.
const SYSTEM_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS that trusts the CAs of the file, or those of the machine.
///
/// A machine without any CA trusts none: then only a handshake fails, and plain HTTP works.
pub(super) fn trust(file: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let roots = match file {
        Some(file) => named(file)?,
        None => of_system(),
    };
    let provider = Arc::new(crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Setup(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The CAs of a file that the user named: every one must be usable.
fn named(file: &Path) -> Result<RootCertStore, ClientError> {
    let unusable = |reason: String| ClientError::CaFile { path: file.to_owned(), reason };
    let text = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| unusable(format!("it is not valid PEM: {error}")))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(roots)
}

/// The CAs of the machine, without those that the library does not understand.
fn of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let files = named.into_iter().chain(SYSTEM_FILES.iter().map(std::path::PathBuf::from));
    if let Some(text) = files.filter_map(|file| std::fs::read(file).ok()).next() {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).filter_map(Result::ok));
    }
    roots
}
