//! Every acknowledged event is in every node's `$all`, with the same stream, number, type and
//! bytes, at the position in its acknowledgement.

use super::{Violation, placed};
use crate::feed::{NodeFeed, ReadEvent};
use crate::history::{History, SentEvent};

/// The name of the rule.
pub const RULE: &str = "stored";

/// Judges every acknowledgement, including those of repeated requests.
pub fn check(history: &History, feeds: &[NodeFeed]) -> Vec<Violation> {
    feeds.iter().flat_map(|feed| check_node(history, feed)).collect()
}

fn check_node(history: &History, feed: &NodeFeed) -> Vec<Violation> {
    let placed = placed(feed);
    let mut violations = Vec::new();
    for write in &history.writes {
        for (_, first_number, last_position) in write.acknowledgements() {
            for (index, event) in write.events.iter().enumerate() {
                let fault = match placed.get(&(write.stream.as_str(), event.id.as_str())) {
                    None => Some("is missing".to_owned()),
                    Some(stored) => {
                        let from_end = write.events.len() - 1 - index;
                        let expected_position = last_position.checked_sub(from_end as u64);
                        difference(event, *stored, first_number + index as u64, expected_position)
                    }
                };
                if let Some(fault) = fault {
                    let (id, stream, node) = (&event.id, &write.stream, feed.node);
                    violations.push(Violation::new(
                        RULE,
                        format!("node {node}: acknowledged event {id} of {stream} {fault}"),
                    ));
                }
            }
        }
    }
    violations
}

fn difference(
    sent: &SentEvent,
    (position, stored): (u64, &ReadEvent),
    expected_number: u64,
    expected_position: Option<u64>,
) -> Option<String> {
    if stored.number != expected_number {
        return Some(format!("has number {}, but {expected_number} was acknowledged", stored.number));
    }
    if Some(position) != expected_position {
        return Some(format!("is at position {position}, but {expected_position:?} was acknowledged"));
    }
    if stored.event_type != sent.event_type {
        return Some(format!("has type {:?}, but {:?} was sent", stored.event_type, sent.event_type));
    }
    if stored.data.as_deref() != Some(sent.stored_data.as_str()) {
        return Some(format!("has data {:?}, but {:?} was sent", stored.data, sent.stored_data));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::evidence::healthy;
    use super::*;

    fn broken(harm: impl Fn(&mut History, &mut Vec<NodeFeed>)) -> String {
        let (mut history, mut feeds) = healthy();
        harm(&mut history, &mut feeds);
        check(&history, &feeds).iter().map(Violation::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_lost_event_is_seen_on_the_node_that_lost_it() {
        let found = broken(|_, feeds| {
            feeds[1].events.pop();
        });
        assert!(found.contains("node 2") && found.contains("a2") && found.contains("is missing"), "{found}");
    }

    #[test]
    fn changed_bytes_are_seen() {
        let found = broken(|_, feeds| feeds[0].events[2].data = Some("{}".to_owned()));
        assert!(found.contains("b0") && found.contains("has data"), "{found}");
    }

    #[test]
    fn a_changed_type_is_seen() {
        let found = broken(|_, feeds| feeds[0].events[2].event_type = "other".to_owned());
        assert!(found.contains("has type"), "{found}");
    }

    #[test]
    fn a_wrong_number_is_seen() {
        let found = broken(|_, feeds| feeds[0].events[3].number = 7);
        assert!(found.contains("has number 7"), "{found}");
    }

    #[test]
    fn a_wrong_position_is_seen() {
        let found = broken(|_, feeds| feeds[0].events.swap(2, 3));
        assert!(found.contains("is at position"), "{found}");
    }

    #[test]
    fn an_event_in_another_stream_is_missing() {
        let found = broken(|_, feeds| feeds[0].events[2].stream = "c".to_owned());
        assert!(found.contains("is missing"), "{found}");
    }
}
