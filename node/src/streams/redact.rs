//! Blanking single events, for people who have to be forgotten.

use headwater_proto::stored::{self, Command, command};
use prost::Message;

use super::commit::CommitError;
use super::{RemoteCaller, Streams, audit};
use crate::cluster::{Requester, Write};
use crate::event::{EventNumber, Position, StreamName, WriteOutcome};

/// The event is blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redacted {
    /// Its position.
    pub position: Position,
}

impl Streams {
    /// Blanks data and metadata of an event on every node; its number, id and type stay. Only
    /// administrators may do so.
    ///
    /// # Errors
    /// See [`CommitError`]. An event that is not there, and one that holds metadata in force, is
    /// [`CommitError::Rejected`].
    pub async fn redact(
        &self,
        client: RemoteCaller<'_>,
        stream: &StreamName,
        number: EventNumber,
    ) -> Result<Redacted, CommitError> {
        self.authorize_maintenance(client.caller).await?;
        self.upkeep_barrier().await?;
        let redact = stored::Redact { stream: stream.as_str().to_owned(), number };
        let command = Command::of_maintenance(command::Kind::Redact(redact)).encode_to_vec().into();
        let requester = Requester::Caller(client.caller.clone());
        let outcome = self.cluster.write(Write { command, requester, authorized_in: None }).await?;
        let WriteOutcome::Redacted { position } = outcome else { return Err(CommitError::of(outcome)) };
        audit::redaction(client, stream.as_str(), number);
        Ok(Redacted { position })
    }
}
