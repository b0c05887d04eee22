//! What a running node takes anew: options, certificates and keys (SIGHUP, and
//! POST /admin/reloadconfig).

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::cluster::Cluster;
use crate::config::{self, Changes, Config, ConfigError, LiveOptions};
use crate::http::Reload;
use crate::telemetry;
use crate::tls::Certificates;
use crate::trace::Traces;

/// Reads the options again, from where the node was started with them.
pub(crate) type ReadAgain = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Takes options and files anew. All of them or none: when one is unusable, nothing changes.
pub(super) struct Reloader {
    config: Arc<Config>,
    /// `None` in a program that has made the options itself.
    read_again: Option<Arc<ReadAgain>>,
    certificates: Certificates,
    cluster: Cluster,
    traces: Traces,
    /// Held by the reload under way.
    turn: Mutex<()>,
}

impl Reloader {
    pub(super) fn new(
        config: &Arc<Config>,
        read_again: Option<ReadAgain>,
        certificates: &Certificates,
        cluster: &Cluster,
        traces: &Traces,
    ) -> Self {
        Self {
            config: config.clone(),
            read_again: read_again.map(Arc::new),
            certificates: certificates.clone(),
            cluster: cluster.clone(),
            traces: traces.clone(),
            turn: Mutex::new(()),
        }
    }

    /// This as a function.
    pub(super) fn into_reload(self) -> Reload {
        let reloader = Arc::new(self);
        Box::new(move || {
            let reloader = reloader.clone();
            Box::pin(async move { reloader.run().await.inspect_err(|error| tracing::error!("{error}")) })
        })
    }

    async fn run(&self) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        // Reads files, and may resolve names.
        let (read_again, certificates) = (self.read_again.clone(), self.certificates.clone());
        let read = move || {
            let new = read_again.map(|read_again| read_again()).transpose();
            let new = new.map_err(|error| format!("the options in force are kept: {error}"))?;
            let loaded = certificates.reload();
            loaded.map_err(|error| format!("the certificates and options in use are kept: {error}"))?;
            Ok(new)
        };
        let read = tokio::task::spawn_blocking(read).await;
        if let Some(new) = read.unwrap_or_else(|error| Err(error.to_string()))? {
            self.take(&new);
        }
        Ok(())
    }

    /// Takes what a running node can take, and says which options it cannot.
    fn take(&self, new: &Config) {
        let Changes { taken, need_restart } = config::changes(&self.config, new);
        let (old, new) = (LiveOptions::clone(&self.config.live.now()), LiveOptions::clone(&new.live.now()));
        // The filter was checked when it was read.
        if new.log_filter != old.log_filter
            && let Err(error) = telemetry::set_filter(&new.log_filter)
        {
            tracing::warn!("--log-filter was not taken: {error}");
        }
        // An operator may have given another priority over HTTP, which stays unless the option
        // changes.
        if new.node_priority != old.node_priority {
            self.cluster.set_priority(new.node_priority);
        }
        self.traces.set_ratio(new.trace_sample_ratio.millionths());
        self.config.live.replace(new);
        tracing::info!(options = taken.join(" "), "options were read again");
        if !need_restart.is_empty() {
            tracing::warn!(
                options = need_restart.join(" "),
                "these options have changed, and a running node cannot take them: restart it"
            );
        }
    }
}
