//! How long the ids of removed events stay known: a setting of the whole cluster, in the metadata
//! of the stream that lists scavenges.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// How long the ids of removed events stay known unless the metadata say otherwise: a late
/// repetition of a write is recognised for a week.
pub(crate) const DEFAULT_ID_RETENTION: Duration = Duration::from_secs(7 * 86_400);

/// The value that keeps ids for ever.
const FOR_EVER: &str = "for ever";

/// The setting has a value that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("idRetentionSeconds must be a whole number of seconds from 0 on, or \"{FOR_EVER}\", and is {0}")]
pub(crate) struct WrongRetention(String);

#[derive(Deserialize)]
struct Settings {
    #[serde(rename = "idRetentionSeconds")]
    id_retention_seconds: Option<Value>,
}

/// Refuses a metadata document with a value that means nothing. A document without the setting is
/// accepted, whatever it contains (contract/streams 12.3).
///
/// # Errors
/// The value.
pub(crate) fn check(document: &[u8]) -> Result<(), WrongRetention> {
    match serde_json::from_slice(document) {
        Ok(Settings { id_retention_seconds: Some(value) }) => retention(&value).map(drop),
        Ok(Settings { id_retention_seconds: None }) | Err(_) => Ok(()),
    }
}

/// What a stored metadata document says; `None` for ever. Older versions stored values that mean
/// nothing: these, and what is no object, keep the ids, which loses nothing.
pub(crate) fn of(document: &[u8]) -> Option<Duration> {
    match serde_json::from_slice(document) {
        Ok(Settings { id_retention_seconds: Some(value) }) => retention(&value).unwrap_or_default(),
        Ok(Settings { id_retention_seconds: None }) => Some(DEFAULT_ID_RETENTION),
        Err(_) => None,
    }
}

fn retention(value: &Value) -> Result<Option<Duration>, WrongRetention> {
    if value == FOR_EVER {
        return Ok(None);
    }
    value.as_u64().map(|seconds| Some(Duration::from_secs(seconds))).ok_or_else(|| WrongRetention(value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_for_a_week_unless_something_else_is_set() {
        let seconds = |of: u64| Some(Duration::from_secs(of));
        assert_eq!(of(br#"{"$maxAge":9}"#), Some(DEFAULT_ID_RETENTION));
        assert_eq!(of(br#"{"idRetentionSeconds":null}"#), Some(DEFAULT_ID_RETENTION));
        assert_eq!(of(br#"{"idRetentionSeconds":0}"#), seconds(0));
        assert_eq!(of(br#"{"idRetentionSeconds":3600}"#), seconds(3_600));
        for forever in [&br#"{"idRetentionSeconds":"for ever"}"#[..], br#"{"idRetentionSeconds":-1}"#, b"[1", b"7"] {
            assert_eq!(of(forever), None);
        }
    }

    #[test]
    fn a_value_that_means_nothing_is_refused() {
        for good in [&br#"{"$maxAge":9}"#[..], br#"{"idRetentionSeconds":0}"#, br#"{"idRetentionSeconds":"for ever"}"#]
        {
            check(good).unwrap();
        }
        for bad in ["\"3600\"", "\"forever\"", "-1", "0.5", "3600.0", "true", "[]", "{}", "1e400"] {
            let document = format!("{{\"idRetentionSeconds\":{bad}}}");
            let refused = check(document.as_bytes());
            // What is no JSON at all is no setting either.
            assert!(refused.is_err() || bad == "1e400", "{bad}");
        }
        let text = check(br#"{"idRetentionSeconds":-1}"#).unwrap_err().to_string();
        assert!(text.contains("whole number of seconds") && text.ends_with("is -1"), "{text}");
    }
}
