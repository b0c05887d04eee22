//! Certificates for tests, made by the code of the `certs` subcommand.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use headwater::config::TlsFiles;
use headwater::testing::{Authority, ServerNames};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A CA, and a directory for the files of servers.
pub(crate) struct Pki {
    authority: Authority,
    directory: TempDir,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now();
        let authority = Authority::new(None, now - DAY..now + 100 * DAY).unwrap();
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("ca.crt"), authority.certificate_pem()).unwrap();
        Self { authority, directory }
    }

    pub(crate) fn ca_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes certificate and key of a server anew: a second call renews them.
    pub(crate) fn issue(&self, server: u16) {
        let now = SystemTime::now();
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let name = ServerNames::default().of(server);
        let (certificate, key) = self.authority.issue(&name, &hosts, now - DAY..now + 90 * DAY).unwrap();
        std::fs::write(self.path(&format!("{server}.crt")), certificate).unwrap();
        std::fs::write(self.path(&format!("{server}.key")), key).unwrap();
    }

    /// The files of a server, just written.
    pub(crate) fn files(&self, server: u16) -> TlsFiles {
        self.issue(server);
        TlsFiles {
            cert_file: Some(self.path(&format!("{server}.crt"))),
            key_file: Some(self.path(&format!("{server}.key"))),
            ca_file: Some(self.path("ca.crt")),
            ..TlsFiles::default()
        }
    }

    /// The options of a node that name its files, which [`Self::issue`] writes. `{id}` stands for
    /// the server id.
    pub(crate) fn options(&self) -> [String; 3] {
        let option = |flag: &str, name: &str| format!("{flag}={}", self.path(name).display());
        [option("--tls-cert-file", "{id}.crt"), option("--tls-key-file", "{id}.key"), option("--tls-ca-file", "ca.crt")]
    }
}
