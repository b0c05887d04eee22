//! The settings that are the same on every node: they are kept in the metadata of `$scavenges`.

use std::time::Duration;

use serde::Deserialize;

use super::record::RUNS;
use crate::store::{ReadError, ReadView};

/// How long the ids of removed events stay known unless the metadata say otherwise: a late
/// repetition of a write is recognised for a week.
const DEFAULT_ID_RETENTION: Duration = Duration::from_secs(7 * 86_400);

#[derive(Deserialize)]
struct Settings {
    #[serde(rename = "idRetentionSeconds")]
    id_retention_seconds: Option<serde_json::Value>,
}

/// How long the ids of removed events stay known; `None` for ever.
pub(super) fn id_retention(view: &ReadView<'_>) -> Result<Option<Duration>, ReadError> {
    let document = view.last_visible_event(&format!("$${RUNS}"))?;
    Ok(match document {
        Some(document) => parse(&document.data),
        None => Some(DEFAULT_ID_RETENTION),
    })
}

/// What is not a number of seconds keeps the ids for ever: that loses nothing.
fn parse(document: &[u8]) -> Option<Duration> {
    match serde_json::from_slice::<Settings>(document) {
        Ok(Settings { id_retention_seconds: Some(seconds) }) => seconds.as_u64().map(Duration::from_secs),
        Ok(Settings { id_retention_seconds: None }) => Some(DEFAULT_ID_RETENTION),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_for_a_week_unless_something_else_is_set() {
        let seconds = |of: u64| Some(Duration::from_secs(of));
        assert_eq!(parse(br#"{"$maxAge":9}"#), Some(DEFAULT_ID_RETENTION));
        assert_eq!(parse(br#"{"idRetentionSeconds":0}"#), seconds(0));
        assert_eq!(parse(br#"{"idRetentionSeconds":3600}"#), seconds(3_600));
        for forever in [&br#"{"idRetentionSeconds":"for ever"}"#[..], br#"{"idRetentionSeconds":-1}"#, b"[1", b"7"] {
            assert_eq!(parse(forever), None);
        }
    }
}
