//! Certificates of a cluster under test, made by `headwater certs` like those of an operator.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// The files of two CAs: the current CA and its replacement.
#[derive(Debug)]
pub struct Certificates {
    binary: PathBuf,
    /// The files that the nodes read, and the key of the first CA.
    current: PathBuf,
    /// The second CA and the certificates it has issued.
    next: PathBuf,
    /// Certificates of both CAs, PEM.
    authorities: [String; 2],
}

impl Certificates {
    /// Makes both CAs and certificates of both for every server, below `directory`.
    pub fn create(binary: &Path, directory: &Path, members: &str) -> anyhow::Result<Self> {
        let (current, next) = (directory.join("certs"), directory.join("certs-next"));
        let mut authorities = Vec::new();
        for made in [&current, &next] {
            run(binary, &["create", "--members", members, "--dir", &made.display().to_string()])?;
            authorities.push(read(&made.join("ca.crt"))?);
        }
        let authorities = authorities.try_into().map_err(|_| anyhow::anyhow!("two CAs were made"))?;
        let certificates = Self { binary: binary.to_owned(), current, next, authorities };
        certificates.trust(&certificates.authorities[..1])?;
        Ok(certificates)
    }

    /// Both CAs, for clients; the second is used only after [`Self::replace`].
    pub fn authorities(&self) -> &[String] {
        &self.authorities
    }

    /// Every private key that was made, PEM.
    pub fn private_keys(&self) -> anyhow::Result<Vec<String>> {
        let mut keys = Vec::new();
        for directory in [&self.current, &self.next] {
            for entry in std::fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
                let path = entry?.path();
                // Replaced keys have a suffix after the name.
                if path.file_name().is_some_and(|name| name.to_string_lossy().contains(".key")) {
                    keys.push(read(&path)?);
                }
            }
        }
        Ok(keys)
    }

    /// Makes the nodes trust these CAs, from their next start or reload on.
    pub fn trust(&self, authorities: &[String]) -> anyhow::Result<()> {
        std::fs::write(self.trusted(), authorities.concat()).context("cannot write the list of CAs")
    }

    /// Makes a new certificate for a server with the first CA.
    pub fn renew(&self, id: u16) -> anyhow::Result<()> {
        run(&self.binary, &["renew", "--server-id", &id.to_string(), "--dir", &self.current.display().to_string()])
    }

    /// Gives a server its certificate of the second CA.
    pub fn replace(&self, id: u16) -> anyhow::Result<()> {
        for name in [format!("server-{id}.crt"), format!("server-{id}.key")] {
            std::fs::copy(self.next.join(&name), self.current.join(&name))
                .with_context(|| format!("cannot copy {name}"))?;
        }
        Ok(())
    }

    /// The options that name a node's files.
    pub fn options(&self, id: u16) -> Vec<String> {
        let option = |flag: &str, path: PathBuf| format!("{flag}={}", path.display());
        vec![
            option("--tls-cert-file", self.current.join(format!("server-{id}.crt"))),
            option("--tls-key-file", self.current.join(format!("server-{id}.key"))),
            option("--tls-ca-file", self.trusted()),
        ]
    }

    /// The file with the CAs that the nodes trust, PEM.
    pub fn trusted(&self) -> PathBuf {
        self.current.join("trusted.crt")
    }
}

fn run(binary: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(binary).arg("certs").args(arguments).output().context("cannot run `headwater certs`")?;
    anyhow::ensure!(output.status.success(), "certs {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
