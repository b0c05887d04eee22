//! The names by which nodes recognise each other: a DNS name in the certificate identifies its
//! server.
//!
//! `server-<id>.headwater.internal`, and `server-<id>.<cluster>.headwater.internal` when the
//! cluster has a name. It is a DNS name, so that the ordinary check of names applies; it is below
//! `internal`, where no public CA issues certificates (docs/adr/0006-tls.md).

use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::files::Certificate;

/// Suffix of all names.
const DOMAIN: &str = "headwater.internal";

/// The names of the servers of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerNames {
    cluster: Option<String>,
}

impl ServerNames {
    /// The names within the given cluster.
    pub(crate) fn new(cluster: Option<String>) -> Self {
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
    pub(crate) fn server_name(&self, server: u16) -> Result<ServerName<'static>, String> {
        ServerName::try_from(self.of(server)).map_err(|error| error.to_string())
    }

    /// The server that a certificate names; its chain has been verified before. Exactly one: a
    /// certificate for two servers, or for all of them by a wildcard, would let one server
    /// impersonate another.
    pub(crate) fn server_of(&self, certificate: &CertificateDer<'_>) -> Result<u16, String> {
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
            Some(cluster) => format!("the certificate is for {name}, which is not a server of the cluster {cluster}"),
            None => format!("the certificate is for {name}, which is not a server of this cluster"),
        })
    }

    fn parse(&self, name: &str) -> Option<u16> {
        let server = name.to_ascii_lowercase().strip_prefix("server-")?.split('.').next()?.parse().ok()?;
        (server > 0 && self.of(server).eq_ignore_ascii_case(name)).then_some(server)
    }
}

/// Whether a name of a certificate says of which server it is. With a dot at its end it is the same
/// name.
pub(super) fn is_in_domain(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
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
            ("Server-1.headwater.internal.", true),
            ("myheadwater.internal", false),
            ("node1", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_in_domain(name), expected, "{name}");
        }
    }
}
