//! What a configuration exposes to the network and to other users of the machine, perhaps without
//! the operator's intention.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Config, Origin, flags, print};

/// Bits of a mode that let others than the owner and its group read a file.
const READ_BY_ALL: u32 = 0o004;

/// One sentence for each password that other users of this machine can see where it is given.
pub(super) fn secrets_in_sight(origins: &BTreeMap<String, Origin>, file: Option<&Path>) -> Vec<String> {
    let mode = file.and_then(|path| path.metadata().ok()).map(|found| found.permissions().mode());
    let is_open = mode.is_some_and(|mode| mode & READ_BY_ALL != 0);
    let secrets = origins.iter().filter(|(key, _)| print::is_secret(key));
    let sentence = |(key, origin): (&String, &Origin)| match (origin, file) {
        (Origin::Flag, _) => {
            let (flag, variable) = (flags::flag_name(key), flags::env_name(key));
            Some(format!("{flag} stands on the command line, which every user of this machine can see; use {variable}"))
        }
        (Origin::File, Some(path)) if is_open => {
            let path = path.display();
            Some(format!("every user of this machine can read '{key}' in {path}: chmod 600 it"))
        }
        _ => None,
    };
    secrets.filter_map(sentence).collect()
}

impl Config {
    /// One sentence for each exposure, naming the options that end it. Loopback addresses do not
    /// count.
    pub fn exposures(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !self.http_listen.ip().is_loopback() && self.tls.for_clients().is_none() {
            found.push(format!(
                "clients are served without TLS on {}: who is on the way reads and changes what they send, passwords \
                 included; set --tls-cert-file and --tls-key-file, or let --http-listen name a loopback address",
                self.http_listen
            ));
        }
        if !self.raft_listen.ip().is_loopback() && self.tls.for_nodes().is_none() {
            found.push(format!(
                "the port for other nodes is open without TLS on {}: who reaches it can act as a node, read everything and \
                 write anything; set --tls-ca-file with a certificate for this node, or let --raft-listen name a loopback \
                 address",
                self.raft_listen
            ));
        }
        found
    }
}
