//! What a node does with streams, whichever door a request came through.
//!
//! A door (HTTP today) parses a request, calls one operation here, and renders what it returns.
//! Every rule of the product that is not one of a protocol is kept here or below: what callers may
//! do, how streams may be called, how large events and commands may be, what readers see, and which
//! node may answer. So a second door cannot forget a check.
//!
//! An operation takes the caller and plain values, and returns values. Each has one error enum,
//! which lists what can go wrong in words of the product. What every operation can be refused for
//! is one of its cases, a [`Refusal`], and what every write can come to is a [`CommitError`]; the
//! steps that operations share return these, and `?` takes them over. A door matches each enum in
//! full, so that the compiler names every door that has to learn a new error. Nothing here is
//! logged that the door is told.

mod append;
mod audit;
mod authorize;
mod barrier;
mod commit;
mod delete;
mod document;
pub(crate) mod events;
mod export;
mod filter;
mod filters;
mod import;
pub(crate) mod limits;
mod links;
mod metadata;
mod page;
mod page_format;
mod page_look;
mod page_parts;
mod page_request;
mod page_search;
mod read_event;
mod read_events;
mod read_page;
mod redact;
mod refusal;
mod source;
mod still_readable;
mod subscribe;
mod walk;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(crate) use append::{Append, AppendError, Appended};
pub(crate) use barrier::ReadBarrier;
pub(crate) use commit::CommitError;
pub(crate) use delete::{Delete, DeleteKind, Deleted};
pub(crate) use document::{Document, LargeAnswer, PageFacts, PageParts, PageRead, ReadPageError};
pub(crate) use export::{ExportPage, ExportedEnds};
pub(crate) use filter::{Filter, FilterBy, Pattern, PatternError};
pub(crate) use import::{Import, ImportError, Imported};
pub(crate) use links::Links;
pub(crate) use page_format::{Detail, PageFormat, PageHead, PageIdentity, PageKind, PageWriter};
pub(crate) use page_request::{PageRequest, Version};
pub(crate) use read_event::{EventRead, ReadEvent, ReadEventError};
pub(crate) use read_events::{EventsRead, ReadEvents};
pub(crate) use refusal::Refusal;
pub(crate) use source::Source;
pub(crate) use still_readable::{CutShort, StillReadable};
pub(crate) use subscribe::{Piece, Subscribe, SubscribeError, Subscription, SubscriptionStart};

use crate::access::Access;
pub(crate) use crate::access::RemoteCaller;
use crate::budget::MemoryBudget;
use crate::cluster::Cluster;
use crate::event::Ticks;
pub(crate) use crate::subscribe::LongPoll;
use crate::subscribe::Waiters;
use filters::Filters;
use limits::{LARGE_PIECE_BYTES, MAX_LARGE_ANSWERS_BYTES, MAX_LARGE_PIECES, MAX_PLACES_BYTES};

/// The operations on streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Streams {
    /// Takes writes, and knows which node leads.
    cluster: Cluster,
    /// Knows what callers may do.
    access: Access,
    /// Readers that wait for events.
    waiters: Arc<Waiters>,
    /// Memory of large answers that are being read, written and sent.
    answers: MemoryBudget,
    /// Memory of where the events of large pages are, until the pages are sent, and of filtered
    /// ones, until they are found.
    places: MemoryBudget,
    /// Memory of large pieces that subscribers have not taken yet. Apart from `answers`, so that
    /// slow subscribers do not keep others from reading pages.
    large_pieces: MemoryBudget,
    /// Filters that are at work.
    filters: Filters,
}

impl Streams {
    /// The operations of the node behind `cluster`. A large answer waits for its memory as long as
    /// a read may wait.
    ///
    /// # Errors
    /// The thread of filters cannot be started.
    pub(crate) fn start(cluster: Cluster, access: Access, read_wait: Duration) -> std::io::Result<Self> {
        Ok(Self {
            cluster,
            access,
            waiters: Arc::default(),
            answers: MemoryBudget::new(MAX_LARGE_ANSWERS_BYTES, read_wait),
            places: MemoryBudget::new(MAX_PLACES_BYTES, Duration::ZERO),
            large_pieces: MemoryBudget::new(MAX_LARGE_PIECES * LARGE_PIECE_BYTES, Duration::ZERO),
            filters: Filters::start()?,
        })
    }

    /// Ends the waits of all readers, present and future: the node shuts down.
    pub(crate) fn close(&self) {
        self.waiters.close();
    }

    /// Returns when the node shuts down.
    pub(crate) async fn closed(&self) {
        self.waiters.closed().await;
    }
}

/// The time by which the age of events is judged.
fn now() -> Ticks {
    Ticks::from_system_time(SystemTime::now())
}
