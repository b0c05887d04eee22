//! The name by which nodes know each other: a DNS name in the certificate that says which server it
//! belongs to.
//!
//! `server-<id>.headwater.internal`, and `server-<id>.<cluster>.headwater.internal` when the
//! cluster has a name. A DNS name, so that the ordinary check of names does the work; below
//! `internal`, which no public CA signs for (docs/adr/0006-tls.md).

use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::files::Certificate;

/// What all names end with.
const DOMAIN: &str = "headwater.internal";

/// The names of the servers of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerNames {
    cluster: Option<String>,
}

impl ServerNames {
    /// Names within the cluster of this name.
    pub fn new(cluster: Option<String>) -> Self {
        Self { cluster }
    }

    /// The name of a server.
    pub fn of(&self, server: u16) -> String {
        match &self.cluster {
            Some(cluster) => format!("server-{server}.{cluster}.{DOMAIN}"),
            None => format!("server-{server}.{DOMAIN}"),
        }
    }

    /// The same for the TLS library.
    pub fn server_name(&self, server: u16) -> Result<ServerName<'static>, String> {
        ServerName::try_from(self.of(server)).map_err(|error| error.to_string())
    }

    /// The server that a certificate names, whose chain was verified before. Exactly one: a
    /// certificate for two servers, or for all of them by a wildcard, would let one stand in for
    /// another.
    pub fn server_of(&self, certificate: &CertificateDer<'_>) -> Result<u16, String> {
        let certificate = Certificate::parse(certificate.clone().into_owned())?;
        let ours: Vec<&String> = certificate.names.iter().filter(|name| is_in_domain(name)).collect();
        let [name] = ours[..] else {
            return Err(if ours.is_empty() {
                format!("the certificate names no server; its names are: {}", certificate.names.join(", "))
            } else {
                format!("the certificate names more than one server: {}", certificate.names.join(", "))
            });
        };
        self.parse(name).ok_or_else(|| match &self.cluster {
            Some(cluster) => format!("the certificate is of {name}, which is no server of the cluster {cluster}"),
            None => format!("the certificate is of {name}, which is no server of this cluster"),
        })
    }

    fn parse(&self, name: &str) -> Option<u16> {
        let server = name.to_ascii_lowercase().strip_prefix("server-")?.split('.').next()?.parse().ok()?;
        (server > 0 && self.of(server).eq_ignore_ascii_case(name)).then_some(server)
    }
}

/// Whether a name of a certificate says of which server it is.
pub(super) fn is_in_domain(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.strip_suffix(DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_server_and_cluster_and_nothing_else_is_one() {
        let (unnamed, named) = (ServerNames::new(None), ServerNames::new(Some("orders".to_owned())));
        assert_eq!(unnamed.of(2), "server-2.headwater.internal");
        assert_eq!(named.of(2), "server-2.orders.headwater.internal");
        for names in [&unnamed, &named] {
            for server in [1, 65_535] {
                assert_eq!(names.parse(&names.of(server)), Some(server));
            }
        }
        assert_eq!(unnamed.parse("SERVER-2.Headwater.Internal"), Some(2));
        for name in [
            "server-2.orders.headwater.internal",
            "server-0.headwater.internal",
            "server-02.headwater.internal",
            "server-+2.headwater.internal",
            "server-65536.headwater.internal",
            "server-2.headwater.internal.",
            "server-2.headwater.internal.example.org",
            "*.headwater.internal",
            "xserver-2.headwater.internal",
        ] {
            assert_eq!(unnamed.parse(name), None, "{name}");
        }
        assert_eq!(named.parse("server-2.headwater.internal"), None);
        assert_eq!(named.parse("server-2.payments.headwater.internal"), None);
    }

    #[test]
    fn every_name_below_the_domain_claims_to_be_a_server() {
        for (name, expected) in [
            ("server-1.headwater.internal", true),
            ("*.headwater.internal", true),
            ("a.B.Headwater.Internal", true),
            ("headwater.internal", true),
            ("myheadwater.internal", false),
            ("node1", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_in_domain(name), expected, "{name}");
        }
    }
}
