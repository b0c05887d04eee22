//! An event as a read shows it: the stored event and, if it is a link, its target (contract/streams
//! 11).

use super::{EventNumber, EventRef, RecordedEvent};

/// The target of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkTarget {
    /// The event is not a link, or links are not followed.
    NotFollowed,
    /// The event that the link names.
    Event(RecordedEvent),
    /// The link names no readable event.
    Dangling {
        /// Number of the target, from the link's text.
        number: EventNumber,
        /// Stream of the target, from the link's text.
        stream: String,
    },
}

/// An event that was read, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResolvedRef<'a> {
    /// The stored event: the link, if it is one.
    pub(crate) original: EventRef<'a>,
    /// Its target.
    pub(crate) target: &'a LinkTarget,
}

impl<'a> ResolvedRef<'a> {
    /// The event shown, if it can be read.
    pub(crate) fn shown(&self) -> Option<EventRef<'a>> {
        match self.target {
            LinkTarget::NotFollowed => Some(self.original),
            LinkTarget::Event(target) => Some(target.borrowed()),
            LinkTarget::Dangling { .. } => None,
        }
    }

    /// Number and stream of the shown event, even if it cannot be read.
    pub(crate) fn identity(&self) -> (EventNumber, &'a str) {
        match self.target {
            LinkTarget::NotFollowed => (self.original.number, self.original.stream),
            LinkTarget::Event(target) => (target.number, &target.stream),
            LinkTarget::Dangling { number, stream } => (*number, stream),
        }
    }

    /// The link, if its target is shown instead.
    pub(crate) fn followed_link(&self) -> Option<EventRef<'a>> {
        matches!(self.target, LinkTarget::Event(_)).then_some(self.original)
    }
}

/// An event that was read, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedEvent {
    /// See [`ResolvedRef::original`].
    pub(crate) original: RecordedEvent,
    /// See [`ResolvedRef::target`].
    pub(crate) target: LinkTarget,
}

impl ResolvedEvent {
    /// The event, borrowed.
    pub(crate) fn borrowed(&self) -> ResolvedRef<'_> {
        ResolvedRef { original: self.original.borrowed(), target: &self.target }
    }

    /// Bytes of the longest stream name that it shows.
    pub(crate) fn name_bytes(&self) -> usize {
        let (_, stream) = self.borrowed().identity();
        stream.len().max(self.original.stream.len())
    }

    /// Bytes of the payload that it shows.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.borrowed().shown().map_or(0, |event| event.data.len() + event.metadata.len())
    }
}

/// Bytes of the shown payloads.
pub(crate) fn payload_bytes(events: &[ResolvedEvent]) -> usize {
    events.iter().map(ResolvedEvent::payload_bytes).sum()
}
