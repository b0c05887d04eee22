//! What a configuration exposes to the network, perhaps without the operator's intention.

use super::Config;

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
