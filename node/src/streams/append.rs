//! Appends (contract/streams 6).

use bytes::Bytes;
use headwater_proto::stored::{self, command};
use prost::Message;
use uuid::Uuid;

use super::commit::CommitError;
use super::events::CheckedEvents;
use super::limits::MAX_COMMAND_BYTES;
use super::metadata::{AccessChange, check_settings_of_upkeep};
use super::{RemoteCaller, Streams};
use crate::access::Right;
use crate::cluster::EncodedCommand;
use crate::event::id_retention::WrongRetention;
use crate::event::metadata::AclError;
use crate::event::{EventNumber, ExpectedVersion, Position, StreamName, WriteOutcome};

/// An append to one stream: all of its events are stored with consecutive numbers, or none.
#[derive(Debug)]
pub(crate) struct Append<'a> {
    /// The stream; metadata is appended to the metastream.
    pub(crate) stream: &'a StreamName,
    /// The condition.
    pub(crate) expected_version: ExpectedVersion,
    /// The events.
    pub(crate) events: CheckedEvents,
    /// Whether the leader itself has to take the request.
    pub(crate) require_leader: bool,
}

/// The events are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Number of the first event.
    pub(crate) first_number: EventNumber,
    /// Position of the last event: a read that has it sees the whole append.
    pub(crate) position: Position,
}

/// Why nothing was appended, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// An access list among the events would not be in force.
    #[error(transparent)]
    AccessList(#[from] AclError),
    /// A setting among the events means nothing.
    #[error(transparent)]
    Setting(#[from] WrongRetention),
    /// The events take more than [`MAX_COMMAND_BYTES`] together.
    #[error("the append is too large")]
    TooLarge,
    /// The write was not made, or nobody knows whether it was.
    #[error(transparent)]
    Commit(CommitError),
}

impl<E: Into<CommitError>> From<E> for AppendError {
    fn from(error: E) -> Self {
        Self::Commit(error.into())
    }
}

impl Streams {
    /// Appends events to a stream.
    ///
    /// # Errors
    /// See [`AppendError`]. A refusal comes before anything else that is wrong with the append.
    pub(crate) async fn append(&self, client: RemoteCaller<'_>, append: Append<'_>) -> Result<Appended, AppendError> {
        let Append { stream, expected_version, events, require_leader } = append;
        self.write_barrier(require_leader).await?;
        let grant = self.authorize_write(client.caller, stream, Right::Write).await?;
        let checked = check_settings_of_upkeep(stream, &events).map_err(AppendError::from);
        let change = match checked.and_then(|()| AccessChange::of(stream, &events).map_err(AppendError::from)) {
            Ok(change) => change,
            Err(error) => {
                self.confirm(&grant).await?;
                return Err(error);
            }
        };
        let before = self.list_before(&change).await?;
        let outcome = self.commit(grant, encode(stream, expected_version, events)?).await?;
        let WriteOutcome::Appended { first_number, position, .. } = outcome else {
            return Err(CommitError::of(outcome).into());
        };
        change.audit(client, before.as_deref());
        Ok(Appended { first_number, position })
    }
}

/// The command, encoded once: the same bytes go into the log, to other nodes and to the state
/// machine.
fn encode(
    stream: &StreamName,
    expected_version: ExpectedVersion,
    events: CheckedEvents,
) -> Result<EncodedCommand, AppendError> {
    let write_id = match expected_version {
        ExpectedVersion::NoStream => Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
        // The events' ids tell copies of the append (docs/adr/0016-copies-of-a-write.md).
        ExpectedVersion::Any | ExpectedVersion::Exists | ExpectedVersion::Exactly(_) => Bytes::new(),
    };
    let append = stored::Append {
        stream: stream.as_str().to_owned(),
        expected_version: expected_version.to_number(),
        events: events.into_vec(),
        write_id,
    };
    let command = stored::Command::of_streams(command::Kind::Append(append));
    if command.encoded_len() > MAX_COMMAND_BYTES {
        return Err(AppendError::TooLarge);
    }
    Ok(EncodedCommand::of(&command))
}
