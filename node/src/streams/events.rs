//! The events of an append: what each must have, and how large it and all of them may be.

use bytes::Bytes;
use headwater_proto::stored::NewEvent;
use uuid::Uuid;

use super::limits::{
    MAX_COMMAND_BYTES, MAX_EVENT_BYTES, MAX_EVENT_TYPE_BYTES, MAX_EVENTS_PER_APPEND, MAX_RECORD_BYTES,
};

/// An event as a caller proposes it. Nothing of it was checked.
#[derive(Debug, Default)]
pub(crate) struct ProposedEvent {
    /// Chosen by the caller; the zero id is as good as none.
    pub(crate) id: Option<Uuid>,
    /// Chosen by the caller; the empty text is as good as none.
    pub(crate) event_type: Option<String>,
    /// Whether the event counts as JSON.
    pub(crate) is_json: bool,
    /// The bytes to store.
    pub(crate) data: Bytes,
    /// The bytes to store; none are as good as no metadata.
    pub(crate) metadata: Bytes,
}

/// Why the events of an append are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventError {
    /// There is not one event.
    #[error("there is no event")]
    NoEvents,
    /// An event without an id, or with the zero id.
    #[error("an event has no id")]
    EmptyId,
    /// An event without a type, or with an empty one.
    #[error("an event has no type")]
    EmptyType,
    /// A type beyond [`MAX_EVENT_TYPE_BYTES`].
    #[error("the type of an event is too long")]
    TypeTooLong,
    /// Data and metadata of an event beyond [`MAX_EVENT_BYTES`].
    #[error("an event is too large")]
    TooLarge,
    /// Data and metadata of an event of [`MAX_RECORD_BYTES`] or more.
    #[error("an event is larger than any log could hold")]
    RecordTooLarge,
    /// More events than [`MAX_EVENTS_PER_APPEND`].
    #[error("there are too many events in one append")]
    TooMany,
    /// All events together exceed [`MAX_COMMAND_BYTES`].
    #[error("the events of one append are too large together")]
    AllTooLarge,
}

impl EventError {
    /// The refusal of an event whose data and metadata have, or would have, so many bytes: more
    /// than it may have.
    pub(crate) fn of_size(bytes: usize) -> Self {
        if bytes < MAX_RECORD_BYTES { Self::TooLarge } else { Self::RecordTooLarge }
    }
}

impl ProposedEvent {
    /// Looks for the id and the type, which can be told before the payload is there.
    ///
    /// # Errors
    /// One of the two is missing.
    pub(crate) fn check_identity(&self) -> Result<(), EventError> {
        if self.id.is_none_or(|id| id.is_nil()) {
            return Err(EventError::EmptyId);
        }
        if self.event_type.as_ref().is_none_or(String::is_empty) {
            return Err(EventError::EmptyType);
        }
        Ok(())
    }

    fn payload_bytes(&self) -> usize {
        self.data.len() + self.metadata.len()
    }

    /// The event as it is stored, if it has what it must have and is within its limits.
    fn checked(self) -> Result<NewEvent, EventError> {
        self.check_identity()?;
        let bytes = self.payload_bytes();
        let (id, event_type) = (self.id.unwrap_or_default(), self.event_type.unwrap_or_default());
        check_size(&event_type, bytes)?;
        let event_id = Bytes::copy_from_slice(id.as_bytes());
        Ok(NewEvent { event_id, event_type, is_json: self.is_json, data: self.data, metadata: self.metadata })
    }
}

/// Looks whether the type, and data and metadata together, are within the limits of an event.
///
/// # Errors
/// One of them is not.
pub(super) fn check_size(event_type: &str, payload_bytes: usize) -> Result<(), EventError> {
    if event_type.len() > MAX_EVENT_TYPE_BYTES {
        return Err(EventError::TypeTooLong);
    }
    if payload_bytes > MAX_EVENT_BYTES {
        return Err(EventError::of_size(payload_bytes));
    }
    Ok(())
}

/// The events of one append, at least one, each within the limits.
#[derive(Debug, PartialEq)]
pub(crate) struct CheckedEvents(Vec<NewEvent>);

impl CheckedEvents {
    /// A single event.
    ///
    /// # Errors
    /// See [`EventError`].
    pub(crate) fn one(event: ProposedEvent) -> Result<Self, EventError> {
        Ok(Self(vec![event.checked()?]))
    }

    /// Data and metadata of all events together.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.0.iter().map(|event| event.data.len() + event.metadata.len()).sum()
    }

    /// The events as they are stored.
    pub(crate) fn as_slice(&self) -> &[NewEvent] {
        &self.0
    }

    /// See [`Self::as_slice`].
    pub(super) fn into_vec(self) -> Vec<NewEvent> {
        self.0
    }
}

/// Takes the events of an append one by one, as a door reads them.
///
/// The rest of a request may turn out to be unreadable, which is the graver error. So what is wrong
/// with an event is told at the end; from then on no events are kept.
#[derive(Debug, Default)]
pub(crate) struct EventCollector {
    kept: Vec<NewEvent>,
    count: usize,
    bytes: usize,
    refused: Option<EventError>,
}

impl EventCollector {
    /// Takes the next event.
    ///
    /// # Errors
    /// Reading on makes no sense: there are more events, or more bytes of them, than any append may
    /// have. Payloads that are indented can be a hundred times as long as they were in the request,
    /// so this is told before all of them were taken.
    pub(crate) fn push(&mut self, event: ProposedEvent) -> Result<(), EventError> {
        self.count += 1;
        if self.count > MAX_EVENTS_PER_APPEND {
            return Err(EventError::TooMany);
        }
        self.bytes += event.payload_bytes();
        match event.checked() {
            Ok(event) if self.refused.is_none() => self.kept.push(event),
            Ok(_) => {}
            Err(error) => {
                self.refused.get_or_insert(error);
                self.kept = Vec::new();
            }
        }
        if self.bytes > MAX_COMMAND_BYTES {
            return Err(self.refused.unwrap_or(EventError::AllTooLarge));
        }
        Ok(())
    }

    /// All events that were taken.
    ///
    /// # Errors
    /// What was wrong with the first event that is refused, or there was none.
    pub(crate) fn finish(self) -> Result<CheckedEvents, EventError> {
        match self.refused {
            Some(error) => Err(error),
            None if self.kept.is_empty() => Err(EventError::NoEvents),
            None => Ok(CheckedEvents(self.kept)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: usize) -> ProposedEvent {
        let id = Some(Uuid::from_u128(7));
        ProposedEvent { id, event_type: Some("t".into()), data: vec![0; data].into(), ..ProposedEvent::default() }
    }

    fn refusal(event: ProposedEvent) -> Option<EventError> {
        CheckedEvents::one(event).err()
    }

    #[test]
    fn an_event_has_an_id_and_a_type_of_limited_length() {
        assert_eq!(refusal(event(0)), None);
        assert_eq!(refusal(ProposedEvent { id: None, event_type: None, ..event(0) }), Some(EventError::EmptyId));
        assert_eq!(refusal(ProposedEvent { id: Some(Uuid::nil()), ..event(0) }), Some(EventError::EmptyId));
        for event_type in [None, Some(String::new())] {
            assert_eq!(refusal(ProposedEvent { event_type, ..event(0) }), Some(EventError::EmptyType));
        }
        let of_length = |length: usize| ProposedEvent { event_type: Some("t".repeat(length)), ..event(0) };
        assert_eq!(refusal(of_length(MAX_EVENT_TYPE_BYTES)), None);
        assert_eq!(refusal(of_length(MAX_EVENT_TYPE_BYTES + 1)), Some(EventError::TypeTooLong));
    }

    #[test]
    fn data_and_metadata_count_together_for_the_size_of_an_event() {
        let with_metadata = |data, metadata: usize| ProposedEvent { metadata: vec![0; metadata].into(), ..event(data) };
        assert_eq!(refusal(with_metadata(MAX_EVENT_BYTES - 1, 1)), None);
        assert_eq!(refusal(with_metadata(MAX_EVENT_BYTES, 1)), Some(EventError::TooLarge));
        assert_eq!(refusal(event(MAX_RECORD_BYTES - 1)), Some(EventError::TooLarge));
        assert_eq!(refusal(event(MAX_RECORD_BYTES)), Some(EventError::RecordTooLarge));
    }

    #[test]
    fn the_first_refused_event_decides_and_is_told_at_the_end() {
        let mut events = EventCollector::default();
        events.push(event(1)).unwrap();
        events.push(ProposedEvent { event_type: None, ..event(1) }).unwrap();
        events.push(ProposedEvent { id: None, ..event(1) }).unwrap();
        assert_eq!(events.finish(), Err(EventError::EmptyType));
        assert_eq!(EventCollector::default().finish(), Err(EventError::NoEvents));
    }

    #[test]
    fn more_events_or_bytes_than_an_append_may_have_end_the_taking() {
        let mut many = EventCollector::default();
        for _ in 0..MAX_EVENTS_PER_APPEND {
            many.push(event(0)).unwrap();
        }
        assert_eq!(many.push(event(0)), Err(EventError::TooMany));
        let mut large = EventCollector::default();
        for _ in 0..MAX_COMMAND_BYTES / MAX_EVENT_BYTES {
            large.push(event(MAX_EVENT_BYTES)).unwrap();
        }
        assert_eq!(large.push(event(1)), Err(EventError::AllTooLarge));
    }
}
