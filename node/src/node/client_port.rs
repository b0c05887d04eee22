//! The port for clients: taken when the node starts, opened when it can answer them.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::taken_port::TakenPort;
use crate::cluster::Cluster;
use crate::tls::HttpsAcceptor;
use crate::{fatal, http, supervisor};

/// How often it is looked whether the node is ready.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What serves the clients of a node.
pub(super) struct ClientServer {
    pub(super) port: TakenPort,
    /// Connections at a time.
    pub(super) most: usize,
    pub(super) https: Option<HttpsAcceptor>,
    pub(super) state: http::AppState,
    /// Knows when the node is ready.
    pub(super) cluster: Cluster,
    /// How long the port stays closed at most while the node is not ready: after that, operators
    /// can ask why.
    pub(super) patience: Duration,
    /// The node stops.
    pub(super) stop: CancellationToken,
}

impl ClientServer {
    /// Serves until the node stops, from the moment it is ready, or at once if that is not waited
    /// for.
    ///
    /// # Errors
    /// Another process has taken the address.
    pub(super) fn start(self) -> anyhow::Result<JoinHandle<()>> {
        if self.patience.is_zero() {
            return Ok(tokio::spawn(self.open()?));
        }
        Ok(tokio::spawn(async move {
            if !self.may_open().await {
                return;
            }
            match self.open() {
                Ok(serving) => serving.await,
                Err(error) => {
                    fatal::tell(&format!("{error:#}"));
                    fatal::leave(fatal::EXIT_REFUSED)
                }
            }
        }))
    }

    /// Waits until the port may be opened; false if the node stops instead.
    async fn may_open(&self) -> bool {
        let ready = async {
            while !self.cluster.status().ready {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::select! {
            waited = tokio::time::timeout(self.patience, ready) => {
                if waited.is_err() {
                    let why = self.cluster.status().not_ready_reason.unwrap_or_default();
                    tracing::info!(why, "opening the port for clients although this node is not ready");
                }
                true
            }
            () = self.stop.cancelled() => false,
        }
    }

    fn open(self) -> anyhow::Result<impl Future<Output = ()>> {
        let Self { port, most, https, state, stop, .. } = self;
        let (address, tls) = (port.address(), https.is_some());
        let listener = port.open()?;
        tracing::info!(http = %address, tls, "listening");
        supervisor::serving();
        Ok(http::serve(listener, most, https, state, stop))
    }
}
