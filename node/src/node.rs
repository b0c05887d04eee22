//! Composition root: open stores, start raft, start listeners, ordered shutdown.

use crate::config::Config;

/// A running node.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Runs a node until it is asked to stop.
    ///
    /// # Errors
    /// The start was refused; the message says why and what to do.
    pub async fn run(config: Config) -> anyhow::Result<()> {
        let _ = config;
        unimplemented!()
    }
}
