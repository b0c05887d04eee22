//! `$all` is the same sequence on all nodes.

use super::Violation;
use crate::feed::NodeFeed;
use crate::history::History;

/// The name of the rule.
pub const RULE: &str = "same everywhere";

/// Compares every node with the first.
pub fn check(_history: &History, feeds: &[NodeFeed]) -> Vec<Violation> {
    let Some((first, others)) = feeds.split_first() else {
        return vec![Violation::new(RULE, "no node was read".to_owned())];
    };
    others.iter().filter_map(|other| difference(first, other)).collect()
}

fn difference(first: &NodeFeed, other: &NodeFeed) -> Option<Violation> {
    let names = format!("nodes {} and {}", first.node, other.node);
    let unequal = first.events.iter().zip(&other.events).position(|(one, two)| one != two);
    if let Some(position) = unequal {
        let (one, two) = (&first.events[position], &other.events[position]);
        return Some(Violation::new(RULE, format!("{names} differ at position {position}: {one:?} and {two:?}")));
    }
    let (one, two) = (first.events.len(), other.events.len());
    if one != two {
        return Some(Violation::new(RULE, format!("{names} show {one} and {two} events")));
    }
    let moved = (0..one).find(|place| first.position(*place) != other.position(*place))?;
    let (event, one, two) = (&first.events[moved], first.position(moved), other.position(moved));
    Some(Violation::new(RULE, format!("{names} have {event:?} at positions {one} and {two}")))
}

#[cfg(test)]
mod tests {
    use super::super::evidence::healthy;
    use super::*;

    #[test]
    fn a_shorter_log_is_seen() {
        let (history, mut feeds) = healthy();
        feeds[1].events.pop();
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn another_order_is_seen() {
        let (history, mut feeds) = healthy();
        feeds[1].events.swap(1, 2);
        assert_eq!(check(&history, &feeds).len(), 1);
    }

    #[test]
    fn reading_no_node_is_no_pass() {
        let (history, _) = healthy();
        assert_eq!(check(&history, &[]).len(), 1);
    }
}
