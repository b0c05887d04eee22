//! `$all` is the same sequence on all nodes, and so is what they show of its effects.

use std::collections::BTreeMap;

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

/// What a node shows at a path, without its own address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The node that was asked.
    pub node: u16,
    /// What it was asked for.
    pub path: String,
    /// Status and body.
    pub text: String,
}

/// Compares what nodes that have the same log show at the same path.
pub fn check_documents(documents: &[Document]) -> Vec<Violation> {
    let mut first: BTreeMap<&str, &Document> = BTreeMap::new();
    let mut violations = Vec::new();
    for document in documents {
        let other: &Document = first.entry(&document.path).or_insert(document);
        if other.text != document.text {
            let (Document { node: one, path, .. }, Document { node: two, .. }) = (other, document);
            let detail = format!("nodes {one} and {two} differ in {path}: {} and {}", other.text, document.text);
            violations.push(Violation::new(RULE, detail));
        }
    }
    violations
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
    fn another_document_is_seen() {
        let documents = |texts: [&str; 3]| {
            let document =
                |(node, text): (u16, &str)| Document { node, path: "/users/".to_owned(), text: text.to_owned() };
            (1..).zip(texts).map(document).collect::<Vec<_>>()
        };
        assert!(check_documents(&documents(["a", "a", "a"])).is_empty());
        assert_eq!(check_documents(&documents(["a", "b", "a"])).len(), 1);
        assert_eq!(check_documents(&documents(["a", "b", "c"])).len(), 2);
    }

    #[test]
    fn reading_no_node_is_no_pass() {
        let (history, _) = healthy();
        assert_eq!(check(&history, &[]).len(), 1);
    }
}
