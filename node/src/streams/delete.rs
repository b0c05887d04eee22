//! Deletes (contract/streams 7).

use bytes::Bytes;
use headwater_proto::stored::{self, command};
use uuid::Uuid;

use super::commit::CommitError;
use super::{RemoteCaller, Streams, audit};
use crate::access::Right;
use crate::cluster::EncodedCommand;
use crate::event::{ExpectedVersion, Position, StreamName, WriteOutcome};

/// The end of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delete<'a> {
    /// The stream.
    pub(crate) stream: &'a StreamName,
    /// The condition.
    pub(crate) expected_version: ExpectedVersion,
    /// For how long.
    pub(crate) kind: DeleteKind,
    /// Whether the leader itself has to take the request.
    pub(crate) require_leader: bool,
}

/// What a delete leaves of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeleteKind {
    /// Its events are out of sight; the next append begins it again, under the access list that it
    /// had.
    Soft,
    /// A tombstone: nobody can ever append to it again.
    Hard,
}

/// The stream is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deleted {
    /// Position of the event that says so.
    pub(crate) position: Position,
}

impl Streams {
    /// Deletes a stream.
    ///
    /// # Errors
    /// See [`CommitError`]: a delete has no other ones.
    pub(crate) async fn delete(&self, client: RemoteCaller<'_>, delete: Delete<'_>) -> Result<Deleted, CommitError> {
        self.write_barrier(delete.require_leader).await?;
        let stream = delete.stream;
        let grant = self.authorize_write(client.caller, stream, Right::Delete).await?;
        let list = self.access.list_of(stream.as_str()).await?;
        let outcome = self.commit(grant, encode(delete)).await?;
        let WriteOutcome::Deleted { position } = outcome else { return Err(CommitError::of(outcome)) };
        let list_after = match delete.kind {
            DeleteKind::Soft => list.as_deref(),
            DeleteKind::Hard => None,
        };
        audit::list(client, stream.as_str(), list.as_deref(), list_after);
        Ok(Deleted { position })
    }
}

/// The command, encoded once: the same bytes go into the log, to other nodes and to the state
/// machine.
fn encode(delete: Delete<'_>) -> EncodedCommand {
    let delete = stored::Delete {
        stream: delete.stream.as_str().to_owned(),
        expected_version: delete.expected_version.to_number(),
        hard: match delete.kind {
            DeleteKind::Soft => false,
            DeleteKind::Hard => true,
        },
        // Copies of the delete have it in common, and so are stored once.
        event_id: Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
        keeps_access_list: true,
    };
    EncodedCommand::of(&stored::Command::of_streams(command::Kind::Delete(delete)))
}
