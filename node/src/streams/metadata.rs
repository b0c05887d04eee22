//! What an append means for access to streams: metadata may hold an access list, and `$settings`
//! holds those of all streams without their own.

use std::sync::Arc;

use super::events::CheckedEvents;
use super::{Client, Streams, audit};
use crate::event::metadata::{Acl, AclError, check_acl, check_settings};
use crate::event::stream_name::SETTINGS;
use crate::event::{StreamMetadata, StreamName};
use crate::store::ReadError;

/// The change of access rules that an append makes.
#[derive(Debug)]
pub(super) enum AccessChange<'a> {
    /// None.
    Nothing,
    /// Of the list of one stream.
    List {
        /// The stream.
        described: &'a str,
        /// Its list from now on.
        after: Option<Acl>,
    },
    /// Of the lists for streams without their own.
    Settings,
}

impl<'a> AccessChange<'a> {
    /// What `events` change once they are in `stream`.
    ///
    /// # Errors
    /// A list among them would not be in force, and would leave open what it was to close (contract/services 1.6).
    pub(super) fn of(stream: &'a StreamName, events: &CheckedEvents) -> Result<Self, AclError> {
        let events = events.as_slice();
        if stream.as_str() == SETTINGS {
            for event in events {
                check_settings(&event.data)?;
            }
            return Ok(Self::Settings);
        }
        let Some(described) = stream.borrowed().described() else { return Ok(Self::Nothing) };
        for event in events {
            check_acl(&event.data, event.is_json)?;
        }
        let last = events.last().filter(|event| event.is_json);
        let after = last.and_then(|event| StreamMetadata::parse(&event.data)).and_then(|metadata| metadata.acl);
        Ok(Self::List { described: described.as_str(), after })
    }

    /// Tells in the audit log that the change was made.
    pub(super) fn audit(&self, client: Client<'_>, before: Option<&Acl>) {
        match self {
            Self::Nothing => {}
            Self::List { described, after } => audit::list(client, described, before, after.as_ref()),
            Self::Settings => audit::settings(client),
        }
    }
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
