//! The options of `headwater certs`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::{MemberList, parse_cluster_name, parse_members};

/// What `headwater certs` does.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CertsCommand {
    /// Make a CA, unless the directory has one, and a certificate and key for every listed server
    /// that has none
    ///
    /// Writes ca.crt, ca.key, server-<ID>.crt and server-<ID>.key. Nothing is ever overwritten.
    Create(CreateCerts),
    /// Make a new certificate and key for one server with the CA of the directory
    ///
    /// The names of the present certificate are kept. The files it replaces stay beside the new
    /// ones, under a name with the time.
    Renew(RenewCerts),
}

/// Options of `certs create`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CreateCerts {
    /// The servers, in the form of the option --members: their hosts become names of their
    /// certificates
    #[arg(long, value_name = "LIST", value_parser = parse_members)]
    pub members: MemberList,
    /// Directory for the files; made when missing
    #[arg(long, value_name = "DIR", default_value = "./certs")]
    pub dir: PathBuf,
    /// A further name or IP address under which clients reach every server, such as that of a
    /// balancer; may be repeated
    #[arg(long, value_name = "HOST", value_parser = parse_host)]
    pub host: Vec<String>,
    /// Name of the cluster, for --tls-cluster-name; needed when several clusters share one CA
    #[arg(long, value_name = "NAME", value_parser = parse_cluster_name)]
    pub cluster_name: Option<String>,
    /// Days for which the certificates of the servers are valid
    #[arg(long, value_name = "DAYS", default_value_t = SERVER_DAYS, value_parser = clap::value_parser!(u32).range(1..=MAX_DAYS))]
    pub days: u32,
    /// Days for which a new CA is valid
    #[arg(long, value_name = "DAYS", default_value_t = CA_DAYS, value_parser = clap::value_parser!(u32).range(1..=MAX_DAYS))]
    pub ca_days: u32,
}

/// Options of `certs renew`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RenewCerts {
    /// Id of the server
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    pub server_id: u16,
    /// Directory with ca.crt, ca.key and the server's certificate
    #[arg(long, value_name = "DIR", default_value = "./certs")]
    pub dir: PathBuf,
    /// A name or IP address to add to those of the present certificate; may be repeated
    #[arg(long, value_name = "HOST", value_parser = parse_host)]
    pub host: Vec<String>,
    /// Days for which the certificate is valid
    #[arg(long, value_name = "DAYS", default_value_t = SERVER_DAYS, value_parser = clap::value_parser!(u32).range(1..=MAX_DAYS))]
    pub days: u32,
}

/// A year: long enough not to be in the way, short enough that renewal stays in practice.
const SERVER_DAYS: u32 = 365;

/// Ten years: replacing the CA takes three rounds over all nodes.
const CA_DAYS: u32 = 3_650;

/// Longest validity: above it dates leave the range of some libraries.
const MAX_DAYS: i64 = 36_500;

/// A host without a port, in the form in which it stands in certificates.
fn parse_host(text: &str) -> Result<String, String> {
    let expected = || "expected a DNS name or an IP address, without a port".to_owned();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let is_address = bare.parse::<std::net::IpAddr>().is_ok();
    let is_name = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'*'));
    if is_address || is_name { Ok(bare.to_owned()) } else { Err(expected()) }
}
