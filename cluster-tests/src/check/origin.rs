//! Every event in a user stream was sent by a client, to this stream and with these bytes.

use std::collections::HashMap;

use super::Violation;
use crate::feed::NodeFeed;
use crate::history::{History, SentEvent};

/// The name of the rule.
pub const RULE: &str = "origin";

/// Judges every event of every node.
pub fn check(history: &History, feeds: &[NodeFeed]) -> Vec<Violation> {
    let sent: HashMap<(&str, &str), &SentEvent> = history
        .writes
        .iter()
        .flat_map(|write| write.events.iter().map(|event| ((write.stream.as_str(), event.id.as_str()), event)))
        .collect();
    let mut violations = Vec::new();
    for feed in feeds {
        for (position, event) in feed.events.iter().enumerate() {
            // The server itself writes these: users and their metadata.
            if event.stream.starts_with('$') {
                continue;
            }
            let fault = match sent.get(&(event.stream.as_str(), event.id.as_str())) {
                None => "no client sent it",
                Some(sent) if event.data.as_deref() != Some(sent.stored_data.as_str()) => "it was sent with other data",
                Some(_) => continue,
            };
            let (node, stream, id) = (feed.node, &event.stream, &event.id);
            violations.push(Violation::new(
                RULE,
                format!("node {node}: position {position}, event {id} of {stream}: {fault}"),
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{attempt, healthy, read, unknown, write};
    use super::*;

    #[test]
    fn an_invented_event_is_seen() {
        let (history, mut feeds) = healthy();
        feeds[1].events.push(read("a", 3, "ghost"));
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn an_unacknowledged_event_with_wrong_bytes_is_seen() {
        let (mut history, mut feeds) = healthy();
        history.writes.push(write("a", 2, &["a3"], vec![attempt(90, 95, unknown())]));
        feeds[0].events.push(read("a", 3, "a3"));
        assert_eq!(check(&history, &feeds), Vec::new());
        feeds[0].events[4].data = None;
        assert_eq!(check(&history, &feeds).len(), 1);
    }
}
