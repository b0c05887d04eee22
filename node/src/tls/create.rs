//! `headwater certs`: a private CA, and certificates for the servers of a cluster.

use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use uuid::Uuid;

use super::files::{self, FileError, Purpose, Reason};
use super::load;
use super::names::{ServerNames, is_in_domain};
use crate::config::{CertsCommand, CreateCerts, MemberConfig, RenewCerts, TlsFiles};

/// Certificates are valid from this long before they are made, because clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(3_600);

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Why certificates were not made. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// An existing file is unusable.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// One half of a pair exists; a new other half would not match it.
    #[error("{} exists but {} does not; put it back, or remove both to have them made again", there.display(), missing.display())]
    HalfAPair {
        /// The existing file.
        there: PathBuf,
        /// The missing half.
        missing: PathBuf,
    },
    /// There is no certificate to renew.
    #[error("there is no {} to renew; `headwater certs create` makes certificates for servers that have none", .0.display())]
    NothingToRenew(PathBuf),
    /// The certificate to renew names no server, or another one.
    #[error("{} is not the certificate of server {server}: {reason}", path.display())]
    OtherServer {
        /// The file.
        path: PathBuf,
        /// The intended server.
        server: u16,
        /// What the certificate is instead.
        reason: String,
    },
    /// A host that would make the certificate one of another server.
    #[error(
        "{0} is the name of a server of a cluster; hosts are the names and addresses that clients and nodes connect to"
    )]
    NameOfAServer(String),
    /// A renewal of this moment was made before.
    #[error("{} is there already: renew again in a second, or move it away", .0.display())]
    KeptThere(PathBuf),
    /// The library for certificates refuses, as with a name that it cannot encode.
    #[error("the certificate cannot be made: {0}")]
    Library(#[from] rcgen::Error),
}

/// A CA that can issue certificates.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
}

impl Authority {
    /// A new CA, valid between the two moments.
    ///
    /// # Errors
    /// None in practice.
    pub fn new(cluster_name: Option<&str>, validity: Range<SystemTime>) -> Result<Self, CreateError> {
        let mut params = CertificateParams::default();
        // With a number: an issuer is looked up by its name, and two CAs of the same name would be
        // confused.
        let number = Uuid::new_v4().simple();
        params.distinguished_name = common_name(match cluster_name {
            Some(name) => format!("Headwater CA of {name} {number}"),
            None => format!("Headwater CA {number}"),
        });
        // It issues only certificates of servers: no further CA below it.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = validity.start.into();
        params.not_after = validity.end.into();
        let key = KeyPair::generate()?;
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { certificate_pem, issuer: Issuer::new(params, key), not_after: validity.end })
    }

    /// The CA in `ca.crt` and `ca.key`.
    fn open(certificate: &Path, key: &Path) -> Result<Self, CreateError> {
        let now = Timestamp::now();
        let error = |reason| FileError { path: certificate.to_owned(), purpose: Purpose::Authority, reason };
        let chain = files::read_certificates(certificate, Purpose::Authority)?;
        let [own] = &chain[..] else {
            let reason = "it holds several certificates; the one that belongs to ca.key has to be alone".to_owned();
            return Err(error(Reason::Refused(reason)).into());
        };
        own.check_validity(now).map_err(error)?;
        let key_error = |reason| FileError { path: key.to_owned(), purpose: Purpose::Key, reason };
        let der = files::read_key(key)?;
        let pair = KeyPair::try_from(&der).map_err(|found| key_error(Reason::UnusableKey(found.to_string())))?;
        let issuer = Issuer::from_ca_cert_der(&own.der, pair)?;
        let certificate_pem =
            std::fs::read_to_string(certificate).map_err(|source| error(Reason::Unreadable(source)))?;
        let not_after =
            own.not_after.try_into().map_err(|found: jiff::Error| error(Reason::Refused(found.to_string())))?;
        Ok(Self { certificate_pem, issuer, not_after })
    }

    /// The certificate of the CA, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key of the CA, PEM.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate and key, PEM, for the server with this name, reached under `hosts` (names and
    /// addresses). Valid between the two moments, but no longer than the CA.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn issue(
        &self,
        server_name: &str,
        hosts: &[String],
        validity: Range<SystemTime>,
    ) -> Result<(String, String), CreateError> {
        let mut names = vec![server_name.to_owned()];
        for host in hosts {
            if !names.contains(host) {
                names.push(host.clone());
            }
        }
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = common_name(server_name.to_owned());
        params.not_before = validity.start.into();
        params.not_after = validity.end.min(self.not_after).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node is the server of some connections and the client of others.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// No host may be the name of another server, in whatever spelling, nor a pattern for such names:
/// nodes know each other by the names in their certificates.
fn check_hosts(server_name: &str, hosts: &[String]) -> Result<(), CreateError> {
    let names_another = |host: &&String| is_in_domain(host) && *host != server_name;
    hosts.iter().find(names_another).map_or(Ok(()), |host| Err(CreateError::NameOfAServer(host.clone())))
}

fn from_now(days: u32) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - CLOCK_SKEW..now + DAY * days
}

fn common_name(name: String) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Runs `headwater certs`, and returns what was done and what to do next.
///
/// # Errors
/// Nothing was overwritten; files named in messages before the error were written.
pub(crate) fn run(command: &CertsCommand) -> Result<String, CreateError> {
    match command {
        CertsCommand::Create(options) => create(options),
        CertsCommand::Renew(options) => renew(options),
    }
}

/// Paths in the directory of certificates.
struct Directory<'a>(&'a Path);

impl Directory<'_> {
    fn authority(&self) -> (PathBuf, PathBuf) {
        (self.0.join("ca.crt"), self.0.join("ca.key"))
    }

    fn server(&self, id: u16) -> (PathBuf, PathBuf) {
        (self.0.join(format!("server-{id}.crt")), self.0.join(format!("server-{id}.key")))
    }
}

fn create(options: &CreateCerts) -> Result<String, CreateError> {
    let directory = Directory(&options.dir);
    let names = ServerNames::new(options.cluster_name.clone());
    // Before the first file is written.
    for member in &options.members.0 {
        check_hosts(&names.of(member.id), &hosts_of(member, options))?;
    }
    std::fs::create_dir_all(&options.dir).map_err(|source| CreateError::Write { path: options.dir.clone(), source })?;
    let mut report = Vec::new();

    let (ca, ca_key) = directory.authority();
    let authority = if pair_exists(&ca, &ca_key)? {
        report.push(format!("kept  {}, the existing CA", ca.display()));
        Authority::open(&ca, &ca_key)?
    } else {
        let authority = Authority::new(options.cluster_name.as_deref(), from_now(options.ca_days))?;
        write_pair((&ca, authority.certificate_pem()), (&ca_key, &authority.key_pem()))?;
        report.push(format!("wrote {}, the certificate of the CA: every node needs it", ca.display()));
        report.push(format!(
            "wrote {}, its private key: keep it away from the nodes, it can make new ones",
            ca_key.display()
        ));
        authority
    };

    let mut example = None;
    for member in &options.members.0 {
        let (certificate, key) = directory.server(member.id);
        if pair_exists(&certificate, &key)? {
            report.push(format!("kept  {} and its key; `certs renew` replaces them", certificate.display()));
            continue;
        }
        let made = authority.issue(&names.of(member.id), &hosts_of(member, options), from_now(options.days))?;
        write_pair((&certificate, &made.0), (&key, &made.1))?;
        check(member.id, names.clone(), &certificate, &key, &ca)?;
        report.push(format!("wrote {} and {}, for server {} alone", certificate.display(), key.display(), member.id));
        example = example.or(Some(member));
    }

    let example = example.or(options.members.0.first());
    let id = example.map_or(1, |member| member.id);
    let url = example.map_or_else(|| "127.0.0.1:2113".to_owned(), |member| member.http_address.clone());
    let name = options.cluster_name.as_ref().map(|name| format!(" --tls-cluster-name {name}")).unwrap_or_default();
    report.push(format!(
        "\nNext: give each server ca.crt and its own two files, and start its node with (server {id})\n  \
         --tls-cert-file server-{id}.crt --tls-key-file server-{id}.key --tls-ca-file ca.crt{name}\n\
         and let clients trust ca.crt:\n  curl --cacert {} https://{url}/info\n",
        ca.display()
    ));
    Ok(report.join("\n"))
}

/// Where a server is reached.
fn hosts_of(member: &MemberConfig, options: &CreateCerts) -> Vec<String> {
    let own = [host(&member.http_address), host(&member.raft_address)];
    own.into_iter().chain(options.host.iter().cloned()).collect()
}

fn renew(options: &RenewCerts) -> Result<String, CreateError> {
    let directory = Directory(&options.dir);
    let (ca, ca_key) = directory.authority();
    let authority = Authority::open(&ca, &ca_key)?;
    let (certificate, key) = directory.server(options.server_id);
    if !certificate.exists() {
        return Err(CreateError::NothingToRenew(certificate));
    }
    let present = files::read_certificates(&certificate, Purpose::NodeCertificate)?;
    let (own, mut hosts): (Vec<_>, Vec<_>) =
        present.into_iter().take(1).flat_map(|leaf| leaf.names).partition(|name| is_in_domain(name));
    let names = names_of(&own, options.server_id).map_err(|reason| CreateError::OtherServer {
        path: certificate.clone(),
        server: options.server_id,
        reason,
    })?;
    check_hosts(&names.of(options.server_id), &options.host)?;
    hosts.extend(options.host.iter().cloned());

    let made = authority.issue(&names.of(options.server_id), &hosts, from_now(options.days))?;
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let kept = |current: &Path| current.with_extension(format!("{}.replaced-{time}", extension(current)));
    for current in [&certificate, &key] {
        if kept(current).symlink_metadata().is_ok() {
            return Err(CreateError::KeptThere(kept(current)));
        }
    }
    // Written beside the old pair and checked there, so that at no time the only pair is half of
    // each.
    let beside = |path: &Path| path.with_extension(format!("{}.new", extension(path)));
    let (new_certificate, new_key) = (beside(&certificate), beside(&key));
    write_pair((&new_certificate, &made.0), (&new_key, &made.1))?;
    if let Err(error) = check(options.server_id, names, &new_certificate, &new_key, &ca) {
        for path in [new_certificate, new_key] {
            std::fs::remove_file(&path).map_err(|source| CreateError::Write { path, source })?;
        }
        return Err(error.into());
    }
    let mut report = Vec::new();
    for (new, current) in [(&new_certificate, &certificate), (&new_key, &key)] {
        let kept = kept(current);
        replace_and_keep(new, current, &kept).map_err(|source| CreateError::Write { path: current.clone(), source })?;
        report.push(format!("wrote {}; the one before is {}", current.display(), kept.display()));
    }
    report.push(format!(
        "\nNext: put both files in the place of those of server {} and send its process SIGHUP (kill -HUP PID):\n\
         new connections use them at once, open ones stay.\n",
        options.server_id
    ));
    Ok(report.join("\n"))
}

/// Puts `new` into the place of `current`, which keeps another name. At no time is there no
/// `current`, and no file that has the other name already is lost.
pub(super) fn replace_and_keep(new: &Path, current: &Path, kept: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(current, kept) {
        // A key without its certificate may be missing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        linked => linked?,
    }
    std::fs::rename(new, current)
}

/// The cluster that a certificate names, if it names this server of it.
fn names_of(own: &[String], server: u16) -> Result<ServerNames, String> {
    let [name] = own else { return Err(format!("it has the names {}", own.join(", "))) };
    let labels: Vec<&str> = name.split('.').collect();
    let cluster = if labels.len() == 4 { Some(labels[1].to_owned()) } else { None };
    let names = ServerNames::new(cluster);
    if names.of(server) == *name { Ok(names) } else { Err(format!("it is of {name}")) }
}

/// The same checks as at the start of a node.
fn check(server: u16, names: ServerNames, certificate: &Path, key: &Path, ca: &Path) -> Result<(), FileError> {
    let files = TlsFiles {
        cert_file: Some(certificate.to_owned()),
        key_file: Some(key.to_owned()),
        ca_file: Some(ca.to_owned()),
        ..TlsFiles::default()
    };
    load::load(&files, &names, server, Timestamp::now()).map(|_| ())
}

fn pair_exists(certificate: &Path, key: &Path) -> Result<bool, CreateError> {
    let half =
        |there: &Path, missing: &Path| CreateError::HalfAPair { there: there.to_owned(), missing: missing.to_owned() };
    match (certificate.exists(), key.exists()) {
        (true, true) => Ok(true),
        (false, false) => Ok(false),
        (true, false) => Err(half(certificate, key)),
        (false, true) => Err(half(key, certificate)),
    }
}

/// The key comes first: the next run notices a missing certificate, but only the node would notice
/// a missing key.
fn write_pair(certificate: (&Path, &str), key: (&Path, &str)) -> Result<(), CreateError> {
    for ((path, text), mode) in [(key, 0o600), (certificate, 0o644)] {
        let mut options = OpenOptions::new();
        let created = options.write(true).create_new(true).mode(mode).open(path);
        created
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(|source| CreateError::Write { path: path.to_owned(), source })?;
    }
    Ok(())
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The host of `host:port`, an IPv6 address without its brackets.
fn host(address: &str) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}
