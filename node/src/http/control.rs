//! What operators can tell a node over HTTP and by signals. The composition root does it.

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// Loads again what can change while the node runs; the error is a sentence for operators, and then
/// nothing has changed.
pub(crate) type Reload = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What operators tell the node, and what comes of it.
pub(crate) struct Control {
    /// Stops the node in order, as SIGTERM does.
    pub(crate) shut_down: CancellationToken,
    /// Cancelled when the node is about to stop: it still serves, and asks clients with each answer
    /// to connect to another node.
    pub(crate) leaving: CancellationToken,
    /// What SIGHUP does.
    pub(crate) reload: Reload,
}

impl Control {
    /// Nothing was told yet.
    pub(crate) fn new(reload: Reload) -> Self {
        Self { shut_down: CancellationToken::new(), leaving: CancellationToken::new(), reload }
    }
}
