//! What is read: a stream, the log of all events, or what a filter leaves of it. Every read of
//! events begins with the same look at its source: whether the caller may read it, at which version
//! it is, and what of it is visible.

use std::sync::Arc;

use super::filter::Filter;
use super::links::Links;
use super::page_request::Version;
use super::refusal::Refusal;
use crate::access::Policy;
use crate::deliberate::{self, Fault};
use crate::event::stream_name::ALL;
use crate::event::visibility::VisibleEvents;
use crate::event::{MAX_NUMBER, StreamName, Ticks, Visibility};
use crate::store::{ReadError, ReadView, SlotPlace, Store, StreamInfo};
use crate::subscribe::Watched;

/// What a read is about.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The visible events of a stream, which may not exist yet.
    Stream {
        /// Its name.
        name: StreamName,
        /// What is done with links.
        links: Links,
    },
    /// The log of all events, or what a filter leaves of it.
    Log {
        /// Without one, all events.
        filter: Option<Arc<Filter>>,
        /// What is done with links. [`Links::Followed`] is not for the log, where one event of
        /// anybody would close the page (contract/streams 10).
        links: Links,
    },
}

/// A source at one moment, before any of its events is looked at.
#[derive(Debug, Clone)]
pub(super) struct SourceState {
    /// The state of the stream, or of the one whose metadata says who may read the log.
    pub(super) info: Arc<StreamInfo>,
    /// Number or position behind the last event. The last event of a hard-deleted stream is its
    /// tombstone.
    pub(super) end: u64,
    /// How many of the events that pages of the source may show were redacted: those of the stream;
    /// where links are followed, those of all streams.
    redactions: u32,
}

/// A source that the caller may read. Nothing is said of a source without one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Readable<'a> {
    source: &'a Source,
    state: &'a SourceState,
    policy: &'a Policy,
}

impl Source {
    /// The stream that says who may read the source.
    pub(super) fn stream(&self) -> &str {
        match self {
            Self::Stream { name, .. } => name.as_str(),
            Self::Log { .. } => ALL,
        }
    }

    /// What is done with links.
    pub(super) fn links(&self) -> Links {
        match self {
            Self::Stream { links, .. } | Self::Log { links, .. } => *links,
        }
    }

    /// What leaves out a part of the log.
    pub(super) fn filter(&self) -> Option<&Filter> {
        match self {
            Self::Stream { .. } => None,
            Self::Log { filter, .. } => filter.as_deref(),
        }
    }

    /// What has to change for the source to grow.
    pub(super) fn watched(&self) -> Watched<'_> {
        match self {
            Self::Stream { name, .. } => Watched::Stream(name.as_str()),
            Self::Log { .. } => Watched::Log,
        }
    }

    /// What is known of the source without asking the database: it holds for every view that is
    /// taken later, none is older. Else the place to keep what such a view says of it.
    pub(super) fn known(&self, store: &Store) -> (Option<SourceState>, Option<SlotPlace>) {
        match self {
            Self::Stream { name, links } => {
                // Before the state: a page with this version is never older than it says.
                let redactions = store.redactions();
                match store.known_stream(name.as_str()) {
                    (_, Some(info)) => (Some(SourceState::of_stream(info, *links, redactions)), None),
                    (place, None) => (None, Some(place)),
                }
            }
            // It changes with every write.
            Self::Log { .. } => (None, None),
        }
    }

    /// The source under a view.
    pub(super) fn state(&self, view: &ReadView<'_>) -> Result<SourceState, ReadError> {
        let info = Arc::new(view.stream(self.stream())?);
        Ok(match self {
            Self::Stream { links, .. } => SourceState::of_stream(info, *links, view.redactions()),
            Self::Log { .. } => {
                let hidden = if deliberate::now_and_then(Fault::HideNewest) { 20 } else { 0 };
                let end = view.next_position()?.saturating_sub(hidden);
                SourceState { info, end, redactions: view.redactions() }
            }
        })
    }

    /// What there is to see of the source at this time. Where access lists count, the source is
    /// [`Readable`] first.
    pub(super) fn visibility(&self, state: &SourceState, now: Ticks) -> Visibility {
        match self {
            Self::Stream { .. } => state.info.visibility(now),
            Self::Log { .. } => Visibility::Readable(VisibleEvents::ALL),
        }
    }

    /// Begins a look at the source: the right of the caller comes before anything else.
    pub(super) fn readable<'a>(&'a self, state: &'a SourceState, policy: &'a Policy) -> Result<Readable<'a>, Refusal> {
        if policy.may_read(self.stream(), &state.info) {
            Ok(Readable { source: self, state, policy })
        } else {
            Err(Refusal::Denied)
        }
    }
}

impl SourceState {
    fn of_stream(info: Arc<StreamInfo>, links: Links, redactions_of_all: u32) -> Self {
        let last = if info.tombstoned { Some(MAX_NUMBER) } else { info.last_number };
        let redactions = if links == Links::AsStored { info.redactions } else { redactions_of_all };
        Self { info, end: last.map_or(0, |last| last + 1), redactions }
    }

    /// See the field.
    pub(super) fn redactions(&self) -> u32 {
        self.redactions
    }
}

impl Readable<'_> {
    /// What pages of the source are made of at this moment.
    pub(super) fn version(&self) -> Version {
        let last = self.state.end.checked_sub(1).map_or(-1, |last| last as i64);
        Version { last, redactions: self.state.redactions }
    }

    /// What readers see of the source at this time.
    pub(super) fn visibility(&self, now: Ticks) -> Visibility {
        self.source.visibility(self.state, now)
    }

    /// Whether everybody may read the source.
    pub(super) fn is_public(&self) -> bool {
        self.policy.is_public(self.source.stream(), &self.state.info)
    }
}
