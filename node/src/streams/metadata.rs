//! What an append means for access to streams: metadata may hold an access list, and `$settings`
//! holds those of all streams without their own.

use std::sync::Arc;

use super::events::CheckedEvents;
use super::{RemoteCaller, Streams, audit};
use crate::event::id_retention::{self, WrongRetention};
use crate::event::list_check::{
    check_acl, check_beside, check_resembling_settings, check_settings, resembles_settings,
};
use crate::event::metadata::{Acl, AclError};
use crate::event::stream_name::{SCAVENGES, SETTINGS};
use crate::event::{StreamMetadata, StreamName};
use crate::store::ReadError;

/// The change of access rules that an append makes.
#[derive(Debug)]
pub(super) enum AccessChange<'a> {
    /// None.
    Nothing,
    /// The access list of one stream is wrong.
    List {
        /// The stream.
        described: &'a str,
        /// Its list from now on.
        after: Option<Acl>,
    },
    /// The lists for streams without their own are wrong.
    Settings,
}

impl<'a> AccessChange<'a> {
    /// What `events` change once they are in `stream`.
    ///
    /// # Errors
    /// A list among them would not be in force, and would leave open what it was to close
    /// (contract/services 1.6).
    pub(super) fn of(stream: &'a StreamName, events: &CheckedEvents) -> Result<Self, AclError> {
        let events = events.as_slice();
        if stream.as_str() == SETTINGS {
            for event in events {
                check_settings(&event.data)?;
                check_beside(&event.metadata)?;
            }
            return Ok(Self::Settings);
        }
        let Some(described) = stream.borrowed().described() else {
            if resembles_settings(stream.as_str()) {
                events.iter().try_for_each(|event| check_resembling_settings(&event.data))?;
            }
            return Ok(Self::Nothing);
        };
        for event in events {
            check_acl(&event.data, event.is_json)?;
            check_beside(&event.metadata)?;
        }
        let last = events.last().filter(|event| event.is_json);
        let after = last.and_then(|event| StreamMetadata::parse(&event.data)).and_then(|metadata| metadata.acl);
        Ok(Self::List { described: described.as_str(), after })
    }

    /// Tells in the audit log that the change was made.
    pub(super) fn audit(&self, client: RemoteCaller<'_>, before: Option<&Acl>) {
        match self {
            Self::Nothing => {}
            Self::List { described, after } => audit::list(client, described, before, after.as_ref()),
            Self::Settings => audit::settings(client),
        }
    }
}

/// Refuses metadata of the list of scavenges with a setting that means nothing: nobody would notice
/// that it has no effect.
///
/// # Errors
/// The setting.
pub(super) fn check_settings_of_upkeep(stream: &StreamName, events: &CheckedEvents) -> Result<(), WrongRetention> {
    if stream.borrowed().described().is_none_or(|described| described.as_str() != SCAVENGES) {
        return Ok(());
    }
    events.as_slice().iter().try_for_each(|event| id_retention::check(&event.data))
}

impl Streams {
    /// The list that the change replaces.
    pub(super) async fn list_before(&self, change: &AccessChange<'_>) -> Result<Option<Arc<Acl>>, ReadError> {
        match change {
            AccessChange::List { described, .. } => self.access.list_of(described).await,
            AccessChange::Nothing | AccessChange::Settings => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::streams::events::{EventCollector, ProposedEvent};

    fn stream(name: &str) -> StreamName {
        StreamName::parse(name).unwrap()
    }

    /// Events with these data, stored as JSON.
    fn events(documents: &[&str]) -> CheckedEvents {
        let mut events = EventCollector::default();
        for document in documents {
            let (id, event_type) = (Some(Uuid::from_u128(7)), Some("t".to_owned()));
            let data = document.as_bytes().to_vec().into();
            events.push(ProposedEvent { id, event_type, is_json: true, data, ..ProposedEvent::default() }).unwrap();
        }
        events.finish().unwrap()
    }

    const WRONG: &str = r#"{"$acl":{"$read":"ann"}}"#;

    #[test]
    fn only_metadata_and_settings_change_access_rules() {
        for name in ["s", "$s", "$user-ann"] {
            let stream = stream(name);
            assert!(matches!(AccessChange::of(&stream, &events(&[WRONG])), Ok(AccessChange::Nothing)), "{name}");
        }
    }

    #[test]
    fn only_metadata_of_the_list_of_scavenges_has_settings_of_upkeep() {
        let document = events(&["{}", r#"{"idRetentionSeconds":0.5}"#]);
        assert!(check_settings_of_upkeep(&stream("$$$scavenges"), &document).is_err());
        for name in ["$scavenges", "$$scavenges", "s", "$$s", "$$$scavenges-1"] {
            check_settings_of_upkeep(&stream(name), &document).unwrap();
        }
    }

    #[test]
    fn the_last_event_of_an_append_to_a_metastream_is_the_list_from_now_on() {
        let metastream = stream("$$s");
        let change = AccessChange::of(&metastream, &events(&[r#"{"$acl":{"$r":"ann"}}"#, r#"{"$acl":{"$r":"bob"}}"#]));
        let Ok(AccessChange::List { described: "s", after: Some(after) }) = change else { panic!("{change:?}") };
        assert_eq!(after.read, Some(vec!["bob".to_owned()]));
        let change = AccessChange::of(&metastream, &events(&[r#"{"$acl":{"$r":"ann"}}"#, "{}"]));
        assert!(matches!(change, Ok(AccessChange::List { described: "s", after: None })));
    }

    #[test]
    fn no_event_of_an_append_may_have_a_list_beside_its_document() {
        let (id, event_type) = (Some(Uuid::from_u128(7)), Some("t".to_owned()));
        let (data, metadata) = (Bytes::from_static(b"{}"), Bytes::from_static(br#"{"$acl":{"$r":"ann"}}"#));
        let event = ProposedEvent { id, event_type, is_json: true, data, metadata };
        let events = CheckedEvents::one(event).unwrap();
        for name in ["$$s", SETTINGS].map(stream) {
            let refused = AccessChange::of(&name, &events);
            assert!(matches!(refused, Err(AclError::Misplaced(_))), "{name}");
        }
        assert!(AccessChange::of(&stream("s"), &events).is_ok());
    }

    #[test]
    fn no_event_of_an_append_may_hold_a_list_that_would_not_be_in_force() {
        assert!(AccessChange::of(&stream("$$s"), &events(&[WRONG, "{}"])).is_err());
        let settings = stream(SETTINGS);
        assert!(AccessChange::of(&settings, &events(&[r#"{"$userStreamAcl":{"$read":"ann"}}"#, "{}"])).is_err());
        assert!(matches!(AccessChange::of(&settings, &events(&["{}"])), Ok(AccessChange::Settings)));
    }
}
