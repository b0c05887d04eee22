//! What the command line needs to talk to a running node over HTTP: a login, TLS, deadlines,
//! repetition of what is safe to repeat, errors that say what to do, and progress.
//!
//! Only subcommands use it; nodes talk to each other over [`crate::transport`].

mod call;
mod error;
mod login;
mod progress;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub(crate) use call::{Call, Repeat};
pub(crate) use error::ClientError;
pub(crate) use login::{Login, PASSWORD_VARIABLE};
pub(crate) use progress::{Progress, Unit};
use reqwest::Url;

use crate::config::{ClientFlags, NodeFlags};

/// Exit code of a subcommand that a second signal ends at once, as a shell reports SIGINT.
pub(crate) const EXIT_INTERRUPTED: i32 = 130;

/// What requests of this program say of it.
const AGENT: &str = concat!("headwater/", env!("CARGO_PKG_VERSION"));

/// A node as a subcommand sees it. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Scheme, host and port.
    base: Url,
    login: Option<Login>,
    /// How long a request is repeated.
    retry: Duration,
    /// The user was told that a request is repeated, and none has had an answer since; `None` where
    /// nothing is told.
    has_told: Option<Arc<AtomicBool>>,
}

impl Client {
    /// The node that the flags name; asks for the password if neither the environment nor a file
    /// has it. Makes no connection yet.
    ///
    /// # Errors
    /// There is no password, or a file cannot be used.
    pub(crate) fn new(flags: &NodeFlags) -> Result<Self, ClientError> {
        Self::of(&flags.url, &flags.client, PASSWORD_VARIABLE)
    }

    /// The same for a node named otherwise, with its password in another environment variable.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub(crate) fn of(url: &Url, flags: &ClientFlags, password_variable: &str) -> Result<Self, ClientError> {
        let login = Login::find(flags, url, password_variable)?;
        let patience = flags.patience;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::trust(flags.ca_file.as_deref())?)
            // A redirect to another host would need the login there, which is for the user to say.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(patience.connect())
            .read_timeout(patience.idle())
            .user_agent(AGENT)
            .build()
            .map_err(|error| ClientError::Setup(error.to_string()))?;
        Ok(Self { http, base: url.clone(), login, retry: patience.retry(), has_told: Some(Arc::default()) })
    }

    /// The same login at another node of the cluster.
    #[must_use]
    pub(crate) fn at(&self, node: &Url) -> Self {
        Self { base: node.clone(), ..self.clone() }
    }

    /// The same for a screen that must not have lines between its own.
    #[must_use]
    pub(crate) fn quiet(self) -> Self {
        Self { has_told: None, ..self }
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &str {
        self.base.scheme()
    }

    /// Scheme, host and port, as messages name the node.
    pub(crate) fn name(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }
}

/// A client of servers other than nodes: it trusts the CAs of this machine, and has no login.
///
/// # Errors
/// The TLS library cannot be set up.
pub(crate) fn plain(connect: Duration) -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls::trust(None)?)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(connect)
        .user_agent(AGENT)
        .build()
        .map_err(|error| ClientError::Setup(error.to_string()))
}

/// Runs a subcommand that talks to nodes, on a runtime of its own.
///
/// # Errors
/// Those of the subcommand; or the system gives no runtime.
pub(crate) fn run<T, E: From<std::io::Error>>(command: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .thread_name("headwater-client")
        .enable_all()
        .build()?;
    let done = runtime.block_on(command);
    // A question on a terminal may still hold a thread.
    runtime.shutdown_background();
    done
}
