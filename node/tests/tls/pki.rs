//! Certificates for tests, made by the `certs` subcommand's own code.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use headwater::config::TlsFiles;
use headwater::tls::{Authority, ServerNames};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A CA and a directory for the files of servers.
pub struct Pki {
    authority: Authority,
    directory: TempDir,
}

impl Pki {
    pub fn new() -> Self {
        let now = SystemTime::now();
        Self {
            authority: Authority::new(None, now - DAY..now + 100 * DAY).unwrap(),
            directory: TempDir::new().unwrap(),
        }
    }

    pub fn ca_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The files of a server, written anew: a second call renews its certificate.
    pub fn files(&self, server: u16) -> TlsFiles {
        let now = SystemTime::now();
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let name = ServerNames::default().of(server);
        let (certificate, key) = self.authority.issue(&name, &hosts, now - DAY..now + 90 * DAY).unwrap();
        let write = |name: String, text: &str| {
            std::fs::write(self.path(&name), text).unwrap();
            Some(self.path(&name))
        };
        TlsFiles {
            cert_file: write(format!("{server}.crt"), &certificate),
            key_file: write(format!("{server}.key"), &key),
            ca_file: write(format!("{server}-ca.crt"), self.ca_pem()),
            ..TlsFiles::default()
        }
    }
}

/// The options that name these files.
pub fn options(files: &TlsFiles) -> Vec<String> {
    let option =
        |flag: &str, path: &Option<PathBuf>| path.as_deref().map(|path: &Path| format!("{flag}={}", path.display()));
    let all = [
        option("--tls-cert-file", &files.cert_file),
        option("--tls-key-file", &files.key_file),
        option("--tls-ca-file", &files.ca_file),
    ];
    all.into_iter().flatten().collect()
}
