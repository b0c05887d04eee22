//! Why an import or export ended early.

use std::path::PathBuf;

use crate::client::ClientError;
use crate::files::Unusable;

/// What went wrong. What was stored before stays; starting again goes on from there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// One of the two servers did not do what it should.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file; `-` for a standard stream.
        path: PathBuf,
        /// The error of the system.
        error: std::io::Error,
    },
    /// The system gives no threads, or no signals.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// A line of a file is not what it should be.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// The problem.
        reason: String,
    },
    /// A file has no last line.
    #[error("{} is cut off: its last line, which counts the events, is missing; its events are stored", path.display())]
    CutOff {
        /// The file.
        path: PathBuf,
    },
    /// An answer cannot be understood.
    #[error("{node} sent what is no {expected}: {reason}")]
    Answer {
        /// The server.
        node: String,
        /// What it should have sent.
        expected: &'static str,
        /// The problem.
        reason: String,
    },
    /// The import of this name had another source.
    #[error(
        "the import '{name}' has gone on from {former} before, not from {source_name}; give this one another --name"
    )]
    OtherSource {
        /// Name of the import.
        name: String,
        /// Its source until now.
        former: String,
        /// The source of this run.
        source_name: String,
    },
    /// No node stores an event of this size.
    #[error(
        "event {number} of stream '{stream}' has more than 4 MiB of data and metadata, which no node of Headwater \
         stores; --leave-out-large leaves such events out and says which ones"
    )]
    TooLarge {
        /// Its stream.
        stream: String,
        /// Its number.
        number: crate::event::EventNumber,
    },
    /// There is nothing to export.
    #[error("{node} has no stream '{stream}', or it was deleted: see whether the name is right; nothing was written")]
    NoStream {
        /// The server.
        node: String,
        /// The stream.
        stream: String,
    },
    /// An option does not go with another one.
    #[error("{0}")]
    Usage(String),
}

impl From<Unusable> for TransferError {
    fn from(Unusable { path, error }: Unusable) -> Self {
        Self::File { path, error }
    }
}
