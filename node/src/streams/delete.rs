//! Deletes (contract/streams 7).

use bytes::Bytes;
use headwater_proto::stored::{self, command};
use prost::Message;
use uuid::Uuid;

use super::authorize::AuthorizeError;
use super::commit::LeaderError;
use super::{Client, Streams, audit};
use crate::access::Right;
use crate::cluster::{LeaderHint, WriteError};
use crate::event::{ExpectedVersion, Position, StreamName, WriteOutcome};
use crate::store::ReadError;

/// The end of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Delete<'a> {
    /// The stream.
    pub stream: &'a StreamName,
    /// The condition.
    pub expected_version: ExpectedVersion,
    /// For how long.
    pub kind: DeleteKind,
    /// Whether the leader itself has to take the request.
    pub require_leader: bool,
}

/// What a delete leaves of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteKind {
    /// Its events are out of sight; the next append begins it again.
    Soft,
    /// A tombstone: nobody can ever append to it again.
    Hard,
}

/// The stream is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Position of the event that says so.
    pub position: Position,
}

/// Why nothing was deleted, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The leader has to take this.
    #[error("another node leads")]
    NotLeader(LeaderHint),
    /// Surely not deleted: no leader, or this node is not ready.
    #[error("this node is not ready")]
    NotReady,
    /// Surely not deleted: queues are full.
    #[error("too many writes in flight")]
    Busy,
    /// May have been deleted, or may still be.
    #[error("the outcome is not known")]
    Unknown,
    /// The caller may not delete the stream, or nobody may.
    #[error("not allowed")]
    Denied,
    /// The stream has another last number than expected.
    #[error("the stream is at {current}")]
    WrongExpectedVersion {
        /// The last number ever committed in the stream, -1 for none.
        current: i64,
    },
    /// The stream is deleted for good already.
    #[error("the stream is deleted")]
    StreamDeleted,
    /// No state would allow this delete.
    #[error("{reason}")]
    Rejected {
        /// A sentence for the client.
        reason: String,
    },
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// The answer is one to something else.
    #[error("a delete was answered by: {0}")]
    Answer(WriteOutcome),
}

impl From<LeaderError> for DeleteError {
    fn from(error: LeaderError) -> Self {
        match error {
            LeaderError::NotLeader(hint) => Self::NotLeader(hint),
            LeaderError::NotReady => Self::NotReady,
        }
    }
}

impl From<AuthorizeError> for DeleteError {
    fn from(error: AuthorizeError) -> Self {
        match error {
            AuthorizeError::Denied => Self::Denied,
            AuthorizeError::NotReady => Self::NotReady,
            AuthorizeError::Store(error) => Self::Store(error),
        }
    }
}

impl From<WriteError> for DeleteError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoLeader => Self::NotReady,
            WriteError::Busy => Self::Busy,
            WriteError::Unknown => Self::Unknown,
            WriteError::Denied => Self::Denied,
        }
    }
}

impl Streams {
    /// Deletes a stream.
    ///
    /// # Errors
    /// See [`DeleteError`].
    pub async fn delete(&self, client: Client<'_>, delete: Delete<'_>) -> Result<Deleted, DeleteError> {
        self.write_barrier(delete.require_leader).await?;
        let stream = delete.stream;
        let grant = self.authorize_write(client.caller, stream, Right::Delete).await?;
        let list = self.access.list_of(stream.as_str()).await?;
        let outcome = self.commit(grant, encode(delete)).await?;
        match outcome {
            WriteOutcome::Deleted { position } => {
                // The metadata is gone, and the access list with it.
                audit::list(client, stream.as_str(), list.as_deref(), None);
                Ok(Deleted { position })
            }
            WriteOutcome::WrongExpectedVersion { current } => Err(DeleteError::WrongExpectedVersion { current }),
            WriteOutcome::StreamDeleted => Err(DeleteError::StreamDeleted),
            WriteOutcome::Rejected { reason } => Err(DeleteError::Rejected { reason }),
            WriteOutcome::Appended { .. } => Err(DeleteError::Answer(outcome)),
        }
    }
}

/// The command, encoded once: the same bytes go into the log, to other nodes and to the state
/// machine.
fn encode(delete: Delete<'_>) -> Bytes {
    let delete = stored::Delete {
        stream: delete.stream.as_str().to_owned(),
        expected_version: delete.expected_version.to_number(),
        hard: match delete.kind {
            DeleteKind::Soft => false,
            DeleteKind::Hard => true,
        },
        // Copies of the delete have it in common, and so are stored once.
        event_id: Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
    };
    stored::Command::of_streams(command::Kind::Delete(delete)).encode_to_vec().into()
}
