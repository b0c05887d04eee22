//! Pages of an EventStore's feeds as they come over the wire (contract/streams 8 and 10).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::event::{EventNumber, MAX_NUMBER, TOMBSTONE_EVENT_TYPE};

/// What stands for itself in a path.
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The number of a tombstone in the versions that counted in 32 bits.
const SMALL_MAX_NUMBER: EventNumber = i32::MAX as EventNumber;

/// A name as a part of a path or query.
pub(super) fn encode(name: &str) -> String {
    utf8_percent_encode(name, &UNRESERVED).to_string()
}

/// A page of a feed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    #[serde(default)]
    pub(super) links: Vec<Link>,
    /// Of a stream: begins with the number of its last event, also when that is out of sight.
    e_tag: Option<String>,
    /// Newest first.
    #[serde(default)]
    pub(super) entries: Vec<Entry>,
}

/// A link of a page.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    pub(super) uri: String,
    pub(super) relation: String,
}

/// An event on a page with `embed=body` or more. A link that its server could not resolve has
/// nothing but its title and times.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    #[serde(default, deserialize_with = "id")]
    pub(super) event_id: Option<Uuid>,
    #[serde(default)]
    pub(super) event_type: String,
    #[serde(default)]
    pub(super) event_number: u64,
    pub(super) data: Option<String>,
    pub(super) meta_data: Option<String>,
    pub(super) link_meta_data: Option<String>,
    #[serde(default)]
    pub(super) stream_id: String,
    #[serde(default)]
    pub(super) is_json: bool,
    #[serde(default)]
    pub(super) position_event_number: u64,
    #[serde(default)]
    pub(super) position_stream_id: String,
    #[serde(default)]
    pub(super) title: String,
    #[serde(default)]
    pub(super) updated: String,
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    let text: Option<String> = Deserialize::deserialize(deserializer)?;
    text.map(|text| Uuid::try_parse(&text).map_err(D::Error::custom)).transpose()
}

impl Page {
    /// Path and query of the page behind this one, or before it.
    pub(super) fn link(&self, relation: &str) -> Option<String> {
        let uri = &self.links.iter().find(|link| link.relation == relation)?.uri;
        // Only the path counts: the server may know itself by another address than this client.
        let (_, behind_scheme) = uri.split_once("://")?;
        behind_scheme.find('/').map(|at| behind_scheme[at..].to_owned())
    }
}

impl Page {
    /// The number of the last event of the stream, as far as the page tells.
    pub(super) fn last_number(&self) -> Option<EventNumber> {
        self.e_tag.as_deref()?.split(';').next()?.parse().ok()
    }
}

impl Entry {
    /// Whether it stands for a link that was followed.
    pub(super) fn is_of_link(&self) -> bool {
        self.stream_id != self.position_stream_id || self.event_number != self.position_event_number
    }

    /// Its number; that of a tombstone is the same for all versions.
    pub(super) fn number(&self) -> EventNumber {
        let is_tombstone = self.event_type == TOMBSTONE_EVENT_TYPE && self.event_number >= SMALL_MAX_NUMBER;
        if is_tombstone { MAX_NUMBER } else { self.event_number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_on_by_path_whatever_the_server_calls_itself() {
        let text = r#"{"links":[{"uri":"http://inside:2113/streams/%24all/0A/forward/5","relation":"previous"}]}"#;
        let page: Page = serde_json::from_str(text).unwrap();
        assert_eq!(page.link("previous").as_deref(), Some("/streams/%24all/0A/forward/5"));
        assert_eq!(page.link("next"), None);
    }

    #[test]
    fn tombstones_of_all_versions_have_the_same_number() {
        let entry = |event_type: &str, number: u64| {
            serde_json::from_value::<Entry>(serde_json::json!({ "eventType": event_type, "eventNumber": number }))
                .unwrap()
                .number()
        };
        assert_eq!(entry("$streamDeleted", 2_147_483_647), MAX_NUMBER);
        assert_eq!(entry("$streamDeleted", MAX_NUMBER), MAX_NUMBER);
        assert_eq!(entry("paid", 2_147_483_647), 2_147_483_647);
        assert_eq!(encode("a/b c$"), "a%2Fb%20c%24");
    }
}
