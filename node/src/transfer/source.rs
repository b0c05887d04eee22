//! Where events come from: one shape for all sources.

use serde::{Deserialize, Serialize};

use super::atom::AtomSource;
use super::error::TransferError;
use super::file::FileSource;
use super::headwater::HeadwaterSource;
use crate::client::{Client, Unit};
use crate::event::RecordedEvent;
use crate::ndjson::NextNumber;

/// Events that follow each other in the source.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// In the order of the source.
    pub(super) events: Vec<RecordedEvent>,
    /// Streams whose last events are gone, and the numbers of their next ones.
    pub(super) ends: Vec<NextNumber>,
    /// Where the source goes on behind them; `None` when it cannot be asked to begin there.
    pub(super) next: Option<Place>,
    /// Nothing more is there at the moment.
    pub(super) is_at_head: bool,
    /// How far that is, and how far the source goes, in [`Source::unit`].
    pub(super) reached: u64,
    /// See `reached`.
    pub(super) end: Option<u64>,
    /// What the source could not give as it was stored, a sentence each.
    pub(super) remarks: Vec<String>,
}

/// A place in the log of a server, as it understands it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Place {
    /// A position in a Headwater.
    Position(u64),
    /// The path of a page of `$all` in an EventStore.
    Page(String),
}

/// What becomes of events that a server has written for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// They are given like all others.
    Whole,
    /// They are only named: stream and number are right.
    Named,
}

/// What is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// The log of all events.
    All,
    /// What readers see of a stream.
    Stream(String),
    /// What the query of a filter leaves of the log.
    Filter(String),
}

/// Gives events in order.
pub(super) enum Source {
    Headwater(HeadwaterSource),
    Atom(AtomSource),
    File(FileSource),
}

impl Source {
    /// A server, whichever of the two it is, from its beginning on.
    ///
    /// With [`Own::Named`] the source need not look up what will be left out anyway.
    pub(super) async fn of_server(client: Client, selection: Selection, own: Own) -> Result<Self, TransferError> {
        if HeadwaterSource::speaks(&client).await? {
            return Ok(Self::Headwater(HeadwaterSource::new(client, selection)));
        }
        Ok(Self::Atom(AtomSource::new(client, selection, own)))
    }

    /// Goes on from a place that an earlier run has noted; false when it is none of this source.
    pub(super) fn resume(&mut self, place: Place) -> bool {
        match (self, place) {
            (Self::Headwater(source), Place::Position(position)) => source.resume(position),
            (Self::Atom(source), Place::Page(path)) => source.resume(path),
            _ => return false,
        }
        true
    }

    /// The next events; perhaps none.
    pub(super) async fn next(&mut self) -> Result<Batch, TransferError> {
        match self {
            Self::Headwater(source) => source.next().await,
            Self::Atom(source) => source.next().await,
            Self::File(source) => source.next().await,
        }
    }

    /// At the end of a run: the next streams whose last events are gone. `None` behind the last
    /// one; a file names them among its lines.
    pub(super) async fn next_ends(&mut self) -> Result<Option<Batch>, TransferError> {
        match self {
            Self::Headwater(source) => source.next_ends().await,
            Self::Atom(source) => source.next_ends().await,
            Self::File(_) => Ok(None),
        }
    }

    /// What [`Batch::reached`] counts.
    pub(super) fn unit(&self) -> Unit {
        match self {
            Self::Headwater(_) => Unit::Things("events"),
            Self::Atom(_) | Self::File(_) => Unit::Bytes,
        }
    }
}
