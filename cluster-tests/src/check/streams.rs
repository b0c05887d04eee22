//! In the end each node shows every stream as its log has it, from both ends.
//!
//! The log of a node and its streams are read by different rows of its state.

use std::collections::HashMap;

use super::Violation;
use crate::feed::{NodeFeed, ReadEvent};

/// The name of the rule.
pub const RULE: &str = "streams";

/// Events of a page.
pub const PAGE: usize = 20;

/// An end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The first events.
    Oldest,
    /// The last events.
    Newest,
}

/// One page of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The node that shows it.
    pub node: u16,
    /// The stream.
    pub stream: String,
    /// Which of its ends.
    pub end: End,
    /// The events, oldest first, at most [`PAGE`].
    pub events: Vec<ReadEvent>,
}

/// Compares the pages of each node with its own log. That the logs are equal is another rule.
pub fn check(pages: &[Shown], feeds: &[NodeFeed]) -> Vec<Violation> {
    let of_node = |feed: &NodeFeed| {
        let mut streams: HashMap<&str, Vec<&ReadEvent>> = HashMap::new();
        for event in &feed.events {
            streams.entry(event.stream.as_str()).or_default().push(event);
        }
        let pages = pages.iter().filter(|page| page.node == feed.node);
        pages.filter_map(|page| difference(page, streams.get(page.stream.as_str()))).collect::<Vec<_>>()
    };
    feeds.iter().flat_map(of_node).collect()
}

fn difference(page: &Shown, logged: Option<&Vec<&ReadEvent>>) -> Option<Violation> {
    let logged = logged.map(Vec::as_slice).unwrap_or_default();
    let expected = match page.end {
        End::Oldest => &logged[..logged.len().min(PAGE)],
        End::Newest => &logged[logged.len().saturating_sub(PAGE)..],
    };
    if page.events.iter().eq(expected.iter().copied()) {
        return None;
    }
    let numbers = |events: &mut dyn Iterator<Item = &ReadEvent>| events.map(|event| event.number).collect::<Vec<_>>();
    let (shown, logged) = (numbers(&mut page.events.iter()), numbers(&mut expected.iter().copied()));
    let Shown { node, stream, end, .. } = page;
    Some(Violation::new(RULE, format!("node {node} shows of {stream}, {end:?}: {shown:?}, and has {logged:?}")))
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{healthy, read};
    use super::*;

    fn judge(end: End, events: &[(u64, &str)]) -> usize {
        let (_, feeds) = healthy();
        let events = events.iter().map(|(number, id)| read("a", *number, id)).collect();
        check(&[Shown { node: 2, stream: "a".to_owned(), end, events }], &feeds).len()
    }

    #[test]
    fn a_stream_that_lacks_an_event_of_the_log_is_seen() {
        assert_eq!(judge(End::Newest, &[(0, "a0"), (1, "a1"), (2, "a2")]), 0);
        assert_eq!(judge(End::Oldest, &[(0, "a0"), (1, "a1")]), 1);
        assert_eq!(judge(End::Newest, &[(0, "a0"), (2, "a2")]), 1);
        assert_eq!(judge(End::Newest, &[]), 1);
    }

    #[test]
    fn an_event_of_another_place_is_seen() {
        assert_eq!(judge(End::Newest, &[(0, "a0"), (1, "b0"), (2, "a2")]), 1);
        assert_eq!(judge(End::Newest, &[(0, "a0"), (1, "a1"), (2, "a2"), (3, "a3")]), 1);
    }

    #[test]
    fn a_page_is_compared_with_its_end_of_the_stream() {
        let events: Vec<ReadEvent> = (0..30).map(|number| read("a", number, "e")).collect();
        let feeds = [NodeFeed::new(1, events.clone())];
        let page = |end, events: &[ReadEvent]| Shown { node: 1, stream: "a".to_owned(), end, events: events.to_vec() };
        assert!(check(&[page(End::Oldest, &events[..20]), page(End::Newest, &events[10..])], &feeds).is_empty());
        assert_eq!(check(&[page(End::Newest, &events[..20])], &feeds).len(), 1);
    }
}
