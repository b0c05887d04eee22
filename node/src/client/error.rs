//! Why a subcommand could not do with a node what it was asked to.

use std::path::PathBuf;

use reqwest::StatusCode;

/// A request that got no useful answer, or could not be made. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// There is no password for the login.
    #[error("{reason}")]
    Password {
        /// A sentence.
        reason: String,
    },
    /// The file with CAs cannot be used.
    #[error("--ca-file {} cannot be used: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// The client cannot be set up.
    #[error("cannot make an HTTP client: {0}")]
    Setup(String),
    /// No connection was made: nothing has reached the node.
    #[error("cannot connect to {node}: {reason}; is the node running, and is this its address?")]
    Unreachable {
        /// Scheme, host and port.
        node: String,
        /// The innermost cause.
        reason: String,
    },
    /// The connection was made, but TLS was not.
    #[error("TLS with {node} failed: {reason}; --ca-file names the CA of the node's certificate")]
    Tls {
        /// Scheme, host and port.
        node: String,
        /// The innermost cause.
        reason: String,
    },
    /// The connection broke or the node was silent for too long: a write may have been made.
    #[error("{node} did not answer {request} to the end: {reason}; see whether it still runs, then try again")]
    Broken {
        /// Scheme, host and port.
        node: String,
        /// Method and path.
        request: String,
        /// The innermost cause.
        reason: String,
    },
    /// The node answered with a status other than success.
    #[error("{node} answered {request} with {} {reason}{}", status.as_u16(), advice(*status))]
    Refused {
        /// Scheme, host and port.
        node: String,
        /// Method and path.
        request: String,
        /// The status.
        status: StatusCode,
        /// Reason phrase, or the first line of the body.
        reason: String,
    },
}

impl ClientError {
    /// The status with which the node refused the request.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// What the user can do about a status.
fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "; give --user a user who may do this, and the right password",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "; is this a Headwater of the same version?",
        StatusCode::TEMPORARY_REDIRECT => "; name the leader's address instead (/gossip shows it)",
        StatusCode::INTERNAL_SERVER_ERROR => "; perhaps it was done: look before you repeat it",
        StatusCode::SERVICE_UNAVAILABLE => {
            "; the cluster has no leader, or this node is not ready or busy: `headwater health` says what it waits for"
        }
        _ => "",
    }
}

/// The innermost cause of an error, which says more than what wraps it.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
