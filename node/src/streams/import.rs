//! Events of another store (docs/adr/0023-import.md). They pass by the access lists of streams, and
//! bring users and lists with them: only administrators import.

use bytes::Bytes;
use headwater_proto::stored::{self, Command, ImportProgress, ImportedEnd, ImportedEvent, NewEvent};
use prost::Message;

use super::commit::CommitError;
use super::events::{EventError, check_size};
use super::limits::{MAX_COMMAND_BYTES, MAX_EVENTS_PER_APPEND};
use super::refusal::Refusal;
use super::{RemoteCaller, Streams, audit};
use crate::cluster::{EncodedCommand, Requester, Write};
use crate::event::{
    EventNumber, ImportRefusal, MAX_IMPORTED_NUMBER, MAX_NUMBER, Position, RecordedEvent, StreamName, StreamNameError,
    WriteOutcome,
};

/// Events to store together, in this order.
#[derive(Debug, Default)]
pub(crate) struct Import {
    events: Vec<ImportedEvent>,
    ends: Vec<ImportedEnd>,
    progress: Option<ImportProgress>,
}

/// The events are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Imported {
    /// Events that were stored now.
    pub(crate) stored: u64,
    /// Events that had been stored before.
    pub(crate) present: u64,
    /// A read that includes this position sees all of them.
    pub(crate) position: Position,
}

/// Why nothing was imported, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// One of the events does not fit to what is stored.
    #[error("{0}")]
    Conflict(ImportRefusal),
    /// The write was not made, or nobody knows whether it was.
    #[error(transparent)]
    Commit(CommitError),
}

impl<E: Into<CommitError>> From<E> for ImportError {
    fn from(error: E) -> Self {
        Self::Commit(error.into())
    }
}

/// An event, or an end of a stream, that this store cannot have, or too many of them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportedEventError {
    /// The name of its stream.
    #[error("event {number} of stream '{stream}': {reason}")]
    Stream {
        /// The name.
        stream: String,
        /// Its number.
        number: EventNumber,
        /// What is wrong with it.
        reason: StreamNameError,
    },
    /// Another part of it.
    #[error("event {number} of stream '{stream}': {reason}")]
    Event {
        /// Its stream.
        stream: String,
        /// Its number.
        number: EventNumber,
        /// What is wrong with it.
        reason: String,
    },
    /// All of them together.
    #[error("one import has at most {MAX_EVENTS_PER_APPEND} events and {MAX_COMMAND_BYTES} bytes of them")]
    TooMany,
}

impl Import {
    /// Takes the next event.
    ///
    /// # Errors
    /// It breaks a limit that events have.
    pub(crate) fn push(&mut self, event: RecordedEvent) -> Result<(), ImportedEventError> {
        let RecordedEvent { stream, number, event_id, event_type, is_json, time, data, metadata, .. } = event;
        if self.events.len() + self.ends.len() >= MAX_EVENTS_PER_APPEND {
            return Err(ImportedEventError::TooMany);
        }
        let stream = match StreamName::parse(stream.clone()) {
            Ok(name) => name.into_string(),
            // Names that no request could address are none of a store that requests have filled.
            Err(reason) => return Err(ImportedEventError::Stream { stream, number, reason }),
        };
        let fits = match () {
            () if number > MAX_NUMBER => Err("its number is beyond the last one".to_owned()),
            () if (MAX_IMPORTED_NUMBER + 1..MAX_NUMBER).contains(&number) => {
                Err("its number leaves no room for later events: it may be 2^62-1 at most".to_owned())
            }
            () if event_id.is_nil() => Err(EventError::EmptyId.to_string()),
            () => check_size(&event_type, data.len() + metadata.len()).map_err(|error| error.to_string()),
        };
        if let Err(reason) = fits {
            return Err(ImportedEventError::Event { stream, number, reason });
        }
        let event_id = Bytes::copy_from_slice(event_id.as_bytes());
        let event = Some(NewEvent { event_id, event_type, is_json, data, metadata });
        self.events.push(ImportedEvent { stream, number, time_ticks: time.0, event });
        Ok(())
    }

    /// Takes a stream whose last events are gone, and the number at which it goes on.
    ///
    /// # Errors
    /// No stream of this store goes on there.
    pub(crate) fn push_end(&mut self, stream: String, next_number: EventNumber) -> Result<(), ImportedEventError> {
        if self.events.len() + self.ends.len() >= MAX_EVENTS_PER_APPEND {
            return Err(ImportedEventError::TooMany);
        }
        let stream = match StreamName::parse(stream.clone()) {
            Ok(name) if name.borrowed().is_metastream() => {
                let reason = "a metastream has its last event for as long as its stream is there".to_owned();
                return Err(ImportedEventError::Event { stream, number: next_number, reason });
            }
            Ok(name) => name.into_string(),
            Err(reason) => return Err(ImportedEventError::Stream { stream, number: next_number, reason }),
        };
        if !(1..=MAX_IMPORTED_NUMBER).contains(&next_number) {
            let reason = "a stream without its last event goes on at a number from 1 to 2^62-1".to_owned();
            return Err(ImportedEventError::Event { stream, number: next_number, reason });
        }
        self.ends.push(ImportedEnd { stream, next_number });
        Ok(())
    }

    /// Notes in a stream how far the import has come with these events.
    pub(crate) fn note(&mut self, stream: String, document: Bytes) {
        self.progress = Some(ImportProgress { stream, document });
    }

    fn encode(self) -> Option<EncodedCommand> {
        let Self { events, ends, progress } = self;
        let command = Command::of_maintenance(stored::command::Kind::Import(stored::Import { events, progress, ends }));
        (command.encoded_len() <= MAX_COMMAND_BYTES).then(|| EncodedCommand::of(&command))
    }
}

impl Streams {
    /// Stores events with the numbers and times that they have elsewhere: all of them, or none.
    /// Repeating an import is exact.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub(crate) async fn import(&self, client: RemoteCaller<'_>, import: Import) -> Result<Imported, ImportError> {
        self.authorize_maintenance(client.caller).await?;
        self.upkeep_barrier().await?;
        let Some(command) = import.encode() else {
            return Err(CommitError::Rejected { reason: ImportedEventError::TooMany.to_string() }.into());
        };
        let requester = Requester::Caller(client.caller.clone());
        // The leader decides whether the caller is an administrator: this node may be behind.
        let outcome = self.cluster.write(Write { command, requester, authorized_in: None }).await?;
        match outcome {
            WriteOutcome::Imported { stored, present, position } => {
                audit::import(client, stored);
                Ok(Imported { stored, present, position })
            }
            WriteOutcome::NotImported(refusal) => Err(ImportError::Conflict(refusal)),
            outcome => Err(CommitError::of(outcome).into()),
        }
    }

    /// Refuses everybody but administrators what passes by the access lists.
    pub(super) async fn authorize_maintenance(&self, caller: &crate::access::Caller) -> Result<(), Refusal> {
        self.access.administrator(caller).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn is_taken(number: EventNumber) -> bool {
        let event = RecordedEvent {
            position: 0,
            stream: "s".to_owned(),
            number,
            event_id: Uuid::from_u128(1),
            event_type: "t".to_owned(),
            is_json: false,
            time: crate::event::Ticks(0),
            data: Bytes::new(),
            metadata: Bytes::new(),
        };
        Import::default().push(event).is_ok()
    }

    #[test]
    fn no_stream_is_imported_up_to_the_number_of_its_tombstone() {
        for number in [0, MAX_IMPORTED_NUMBER, MAX_NUMBER] {
            assert!(is_taken(number), "{number}");
        }
        for number in [MAX_IMPORTED_NUMBER + 1, MAX_NUMBER - 1, MAX_NUMBER + 1] {
            assert!(!is_taken(number), "{number}");
        }
        for (next, is_taken) in [(0, false), (1, true), (MAX_IMPORTED_NUMBER, true), (MAX_NUMBER - 1, false)] {
            assert_eq!(Import::default().push_end("s".to_owned(), next).is_ok(), is_taken, "{next}");
        }
    }
}
