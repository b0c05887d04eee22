//! Reading and checking certificate and key files. Every error names the file and the problem.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;

/// Largest file that is read: some hundred certificates. A larger one was named by mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A file that is unusable for TLS.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used as {purpose}: {reason}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Its purpose.
    pub purpose: Purpose,
    /// The problem.
    pub reason: Reason,
}

/// The purpose of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A certificate shown to clients.
    ClientCertificate,
    /// A certificate shown to other nodes.
    NodeCertificate,
    /// The private key of a certificate.
    Key,
    /// Certificates of the cluster's CA.
    Authority,
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ClientCertificate => "certificate for clients",
            Self::NodeCertificate => "certificate for other nodes",
            Self::Key => "private key",
            Self::Authority => "CA certificate",
        })
    }
}

/// The problem with a file.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It is missing, or there is no permission to read it.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is larger than [`MAX_FILE_BYTES`].
    #[error("it is larger than {MAX_FILE_BYTES} bytes, so it is something else")]
    TooLarge,
    /// It is not PEM, or is cut off.
    #[error("it is not valid PEM: {0}")]
    NotPem(String),
    /// PEM without a certificate.
    #[error("it holds no certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// PEM without a private key.
    #[error("it holds no private key (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// A certificate that cannot be parsed.
    #[error("its certificate is malformed: {0}")]
    Malformed(String),
    /// A key of an unknown kind.
    #[error("its key cannot be used: {0}")]
    UnusableKey(String),
    /// The key belongs to another certificate.
    #[error("it does not belong to the certificate {}", .0.display())]
    OtherKey(PathBuf),
    /// Past its validity.
    #[error("it expired on {0}")]
    Expired(Timestamp),
    /// Before its validity.
    #[error("it is valid from {0} only; is the clock of this machine right?")]
    NotYetValid(Timestamp),
    /// Another CA signed it.
    #[error("it was not issued by the CA in {}", .0.display())]
    OtherAuthority(PathBuf),
    /// It belongs to another server or cluster.
    #[error("it lacks the name {expected}, by which other nodes know this server; its names are: {found}")]
    OtherName {
        /// The name that it should have.
        expected: String,
        /// The names that it has.
        found: String,
    },
    /// Any other problem that the TLS library finds.
    #[error("{0}")]
    Refused(String),
}

/// A parsed certificate.
#[derive(Debug)]
pub(super) struct Certificate {
    /// In the encoding that is sent.
    pub(crate) der: CertificateDer<'static>,
    /// Begin of its validity.
    pub(crate) not_before: Timestamp,
    /// End of its validity.
    pub(crate) not_after: Timestamp,
    /// DNS names and IP addresses.
    pub(crate) names: Vec<String>,
}

impl Certificate {
    /// Parses one certificate; a sentence when it is malformed.
    pub(super) fn parse(der: CertificateDer<'static>) -> Result<Self, String> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|error| error.to_string())?;
        let moment = |at: x509_parser::time::ASN1Time| {
            Timestamp::from_second(at.timestamp()).map_err(|_| "its validity is out of range".to_owned())
        };
        let not_before = moment(parsed.validity().not_before)?;
        let not_after = moment(parsed.validity().not_after)?;
        let alternatives = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = alternatives.iter().flat_map(|found| &found.value.general_names).filter_map(name).collect();
        Ok(Self { der, not_before, not_after, names })
    }

    /// Refuses a certificate outside its validity.
    pub(super) fn check_validity(&self, now: Timestamp) -> Result<(), Reason> {
        if now > self.not_after {
            return Err(Reason::Expired(self.not_after));
        }
        if now < self.not_before {
            return Err(Reason::NotYetValid(self.not_before));
        }
        Ok(())
    }
}

fn name(general: &GeneralName<'_>) -> Option<String> {
    match general {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).ok().map(std::net::IpAddr::from);
            let address = v4.or_else(|| <[u8; 16]>::try_from(*bytes).ok().map(std::net::IpAddr::from));
            address.map(|address| address.to_string())
        }
        _ => None,
    }
}

/// All certificates of a file, at least one. The first is the one for which the others vouch.
pub(super) fn read_certificates(path: &Path, purpose: Purpose) -> Result<Vec<Certificate>, FileError> {
    let error = |reason| FileError { path: path.to_owned(), purpose, reason };
    let bytes = read(path).map_err(error)?;
    let mut certificates = Vec::new();
    for der in CertificateDer::pem_slice_iter(&bytes) {
        let der = der.map_err(|found| error(Reason::NotPem(found.to_string())))?;
        certificates.push(Certificate::parse(der).map_err(|found| error(Reason::Malformed(found)))?);
    }
    if certificates.is_empty() {
        Err(error(if is_pem(&bytes) { Reason::NoCertificate } else { not_pem() }))
    } else {
        Ok(certificates)
    }
}

/// The first private key of a file.
pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    use tokio_rustls::rustls::pki_types::pem::Error;
    let error = |reason| FileError { path: path.to_owned(), purpose: Purpose::Key, reason };
    let bytes = read(path).map_err(error)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|found| {
        error(match found {
            Error::NoItemsFound if is_pem(&bytes) => Reason::NoKey,
            Error::NoItemsFound => not_pem(),
            other => Reason::NotPem(other.to_string()),
        })
    })
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|window| window == b"-----BEGIN ")
}

fn not_pem() -> Reason {
    Reason::NotPem("there is no -----BEGIN line in it".to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, Reason> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Reason::TooLarge);
    }
    Ok(bytes)
}

/// Whether every user of this machine may read a private file; `None` when that is unknown.
pub(super) fn is_open_to_all(path: &Path) -> Option<bool> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o004 != 0)
}
