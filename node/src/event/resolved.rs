//! An event as a read shows it: what is stored at the place read and, where that is a link, what it
//! leads to (contract/streams 11).

use super::{EventNumber, EventRef, RecordedEvent};

/// What a link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkTarget {
    /// Nothing: the event is no link, or none that was to be followed.
    NotFollowed,
    /// This event.
    Event(RecordedEvent),
    /// Nothing that can be read.
    Dangling {
        /// Number of the target, from the link's text.
        number: EventNumber,
        /// Stream of the target, from the link's text.
        stream: String,
    },
}

/// An event that was read, where it lies.
#[derive(Debug, Clone, Copy)]
pub struct ResolvedRef<'a> {
    /// The event that stands at the place read: the link, if there is one.
    pub original: EventRef<'a>,
    /// Where it leads.
    pub target: &'a LinkTarget,
}

impl<'a> ResolvedRef<'a> {
    /// The event shown, if it can be read.
    pub fn shown(&self) -> Option<EventRef<'a>> {
        match self.target {
            LinkTarget::NotFollowed => Some(self.original),
            LinkTarget::Event(target) => Some(target.borrowed()),
            LinkTarget::Dangling { .. } => None,
        }
    }

    /// Number and stream of the event shown, also of one that cannot be read.
    pub fn identity(&self) -> (EventNumber, &'a str) {
        match self.target {
            LinkTarget::NotFollowed => (self.original.number, self.original.stream),
            LinkTarget::Event(target) => (target.number, &target.stream),
            LinkTarget::Dangling { number, stream } => (*number, stream),
        }
    }

    /// The link, if its target is shown instead.
    pub fn followed_link(&self) -> Option<EventRef<'a>> {
        matches!(self.target, LinkTarget::Event(_)).then_some(self.original)
    }
}

/// An event that was read, with memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedEvent {
    /// See [`ResolvedRef::original`].
    pub original: RecordedEvent,
    /// See [`ResolvedRef::target`].
    pub target: LinkTarget,
}

impl ResolvedEvent {
    /// The event without its memory.
    pub fn borrowed(&self) -> ResolvedRef<'_> {
        ResolvedRef { original: self.original.borrowed(), target: &self.target }
    }

    /// Bytes of the longest name of a stream that it shows.
    pub fn name_bytes(&self) -> usize {
        let (_, stream) = self.borrowed().identity();
        stream.len().max(self.original.stream.len())
    }

    /// Bytes of the payload that it shows.
    pub fn payload_bytes(&self) -> usize {
        self.borrowed().shown().map_or(0, |event| event.data.len() + event.metadata.len())
    }
}

/// Bytes of the payload that events show.
pub fn payload_bytes(events: &[ResolvedEvent]) -> usize {
    events.iter().map(ResolvedEvent::payload_bytes).sum()
}
