//! Entries as server-sent events (HTML Living Standard, 9.2).

use crate::event::ResolvedRef;
use crate::http::format::atom::{self, Additions, Embed};
use crate::http::format::links::Base;

/// Begins every answer, so that its client knows at once that it stands. A comment, which clients
/// pass over.
pub(crate) const GREETING: &[u8] = b": subscribed\n\n";

/// Tells a client that nothing has happened, and the node that the client is gone.
pub(crate) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Moves the client's last event id forward without an event.
pub(crate) fn checkpoint(id: &str) -> String {
    format!("id: {id}\n\n")
}

/// Appends an entry: `id`, `event` with the event type, and `data` with the entry as it stands in a
/// feed, on one line.
pub(crate) fn push_event(out: &mut Vec<u8>, id: &str, entry: &ResolvedRef<'_>, base: &Base, embed: Embed) {
    push_event_with(out, id, entry, base, embed, Additions::default());
}

/// Appends an entry with more than entries usually have.
pub(crate) fn push_event_with(
    out: &mut Vec<u8>,
    id: &str,
    entry: &ResolvedRef<'_>,
    base: &Base,
    embed: Embed,
    additions: Additions<'_>,
) {
    push_field(out, b"id", id.as_bytes());
    let event_type = entry.shown().map_or_else(|| entry.original.event_type, |event| event.event_type);
    push_field(out, b"event", event_type.as_bytes());
    out.extend_from_slice(b"data: ");
    push_on_one_line(out, &atom::json::feed_entry(entry, base, embed, additions));
    out.extend_from_slice(b"\n\n");
}

/// A value ends with its line, so a type that holds the end of a line gets a blank there; the JSON
/// has it as it is.
fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend(value.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    out.push(b'\n');
}

/// JSON has ends of lines only between its parts, so they and the indentation behind them can be
/// left out.
fn push_on_one_line(out: &mut Vec<u8>, json: &[u8]) {
    for line in json.split(|byte| *byte == b'\n') {
        out.extend_from_slice(line.trim_ascii_start());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;
    use crate::event::{LinkTarget, RecordedEvent, Ticks};

    fn event(event_type: &str, data: &str, is_json: bool) -> RecordedEvent {
        RecordedEvent {
            position: 7,
            stream: "s".to_owned(),
            number: 3,
            event_id: uuid::Uuid::nil(),
            event_type: event_type.to_owned(),
            is_json,
            time: Ticks(0),
            data: Bytes::copy_from_slice(data.as_bytes()),
            metadata: Bytes::new(),
        }
    }

    fn sent(event: RecordedEvent, embed: Embed) -> String {
        let mut out = Vec::new();
        let base = Base::of_request(&HeaderMap::new(), "http", None, "node:1");
        push_event(
            &mut out,
            "3",
            &ResolvedRef { original: event.borrowed(), target: &LinkTarget::NotFollowed },
            &base,
            embed,
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_four_lines() {
        let text = sent(event("a\nb", "{\n  \"x\": \"y\\n z\"\n}", true), Embed::Content);
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!((lines.len(), lines[0], lines[1], lines[3], lines[4]), (5, "id: 3", "event: a b", "", ""));
        let data: serde_json::Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((data["title"].as_str(), data["summary"].as_str()), (Some("3@s"), Some("a\nb")));
        assert_eq!(data["content"]["data"]["x"], "y\n z");
    }

    proptest! {
        #[test]
        fn no_content_breaks_the_frame(event_type: String, data: String, is_json: bool) {
            for embed in [Embed::None, Embed::Content, Embed::Body, Embed::TryHarder] {
                let text = sent(event(&event_type, &data, is_json), embed);
                prop_assert_eq!(text.split(['\n', '\r']).count(), 5, "{}", text);
                let json = text.split('\n').nth(2).and_then(|line| line.strip_prefix("data: ")).unwrap_or_default();
                let value: serde_json::Value = serde_json::from_str(json).map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(value["summary"].as_str(), Some(event_type.as_str()));
            }
        }
    }
}
