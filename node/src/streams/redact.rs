//! Blanking single events, for people who have to be forgotten.

use headwater_proto::stored::{self, Command, command};

use super::commit::CommitError;
use super::{RemoteCaller, Streams, audit};
use crate::access::user::USERS;
use crate::cluster::{EncodedCommand, Requester, Write};
use crate::event::stream_name::USER_PREFIX;
use crate::event::{EventNumber, Position, StreamName, WriteOutcome};
use crate::store::{ReadError, ReadView};

/// The event is blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Redacted {
    /// Its position.
    pub(crate) position: Position,
}

impl Streams {
    /// Blanks data and metadata of an event on every node; its number, id and type stay. Only
    /// administrators may do so.
    ///
    /// # Errors
    /// See [`CommitError`]. An event that is not there, and one that holds metadata, lists or a
    /// user in force, is [`CommitError::Rejected`].
    pub(crate) async fn redact(
        &self,
        client: RemoteCaller<'_>,
        stream: &StreamName,
        number: EventNumber,
    ) -> Result<Redacted, CommitError> {
        self.authorize_maintenance(client.caller).await?;
        self.upkeep_barrier().await?;
        // What is in force by then is in force now, or was written meanwhile.
        self.cluster.catch_up().await?;
        let looked_at = stream.clone();
        if let Some(reason) = self.cluster.store().read(move |view| in_force(view, &looked_at, number)).await? {
            return Err(CommitError::Rejected { reason: reason.to_owned() });
        }
        let redact = stored::Redact { stream: stream.as_str().to_owned(), number };
        let command = EncodedCommand::of(&Command::of_maintenance(command::Kind::Redact(redact)));
        let requester = Requester::Caller(client.caller.clone());
        let outcome = self.cluster.write(Write { command, requester, authorized_in: None }).await?;
        let WriteOutcome::Redacted { position } = outcome else { return Err(CommitError::of(outcome)) };
        audit::redaction(client, stream.as_str(), number);
        Ok(Redacted { position })
    }
}

/// Why an event of users or default lists has to stay: nobody could log in any more, or everybody
/// could read.
fn in_force(view: &ReadView<'_>, stream: &StreamName, number: EventNumber) -> Result<Option<&'static str>, ReadError> {
    if stream.borrowed().is_of_access() {
        let newest = view.last_visible_event(stream.as_str())?;
        if newest.is_none_or(|newest| newest.number != number) {
            return Ok(None);
        }
        return Ok(Some(match stream.as_str().strip_prefix(USER_PREFIX) {
            Some(_) => "this event holds the user; delete the user first, or change it",
            None => "this event holds the lists in force; write others first",
        }));
    }
    if stream.as_str() != USERS {
        return Ok(None);
    }
    let Some(id) = view.stream(USERS)?.id else { return Ok(None) };
    let Some(event) = view.event(id, number)? else { return Ok(None) };
    let user = [USER_PREFIX, &String::from_utf8_lossy(&event.data)].concat();
    let has_user = view.last_visible_event(&user)?.is_some();
    Ok(has_user.then_some("this event names a user; delete the user first"))
}
