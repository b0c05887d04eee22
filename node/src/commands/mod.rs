//! The subcommands for the upkeep of a running cluster. Each does over HTTP what an operator could
//! do there, shows how far it has come, and ends with an error that says what to do.

mod cluster;
mod columns;
mod health;
mod redact;
mod scavenge;
mod top;

pub(crate) use cluster::{Condition, cluster};
pub(crate) use health::health;
pub(crate) use redact::redact;
pub(crate) use scavenge::scavenge;
pub(crate) use top::top;

use serde::de::DeserializeOwned;

use crate::client::{Client, ClientError};

/// Why a subcommand did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The node refused, or could not be talked to.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No node that is known answers.
    #[error("{0}")]
    NoNode(String),
    /// The process lacks something of its system.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The node said something that is none of the answers to this.
    #[error("{node} answered with something unexpected: {answer}; is it a Headwater of this version?")]
    Answer {
        /// Scheme, host and port.
        node: String,
        /// The beginning of its answer.
        answer: String,
    },
    /// The server that was added is no member.
    #[error(
        "server {server} is no member of the cluster any more: another administrator removed it, or undid its coming"
    )]
    NotThere {
        /// Its id.
        server: u16,
    },
    /// The server that was added has not caught up in time.
    #[error(
        "server {server} has not caught up yet; the cluster goes on by itself, and `headwater cluster status` shows it"
    )]
    StillComing {
        /// Its id.
        server: u16,
    },
    /// There is nothing to stop.
    #[error("no scavenge {id} is running: it has ended, or never began; the stream $scavenges lists all runs")]
    NotRunning {
        /// The id that was named.
        id: uuid::Uuid,
    },
    /// The run did not come to its end.
    #[error("the scavenge {id} ended: {state}; the stream $scavenges-{id} says more")]
    Ended {
        /// The id of the run.
        id: String,
        /// How it ended.
        state: String,
    },
}

/// Most bytes of an answer that an error shows.
const SHOWN_BYTES: usize = 200;

/// What a node says in JSON.
///
/// # Errors
/// [`CommandError::Answer`]: it says something else.
fn parsed<T: DeserializeOwned>(client: &Client, answer: &[u8]) -> Result<T, CommandError> {
    serde_json::from_slice(answer).map_err(|_| CommandError::Answer {
        node: client.name().to_owned(),
        answer: String::from_utf8_lossy(&answer[..answer.len().min(SHOWN_BYTES)]).into_owned(),
    })
}
