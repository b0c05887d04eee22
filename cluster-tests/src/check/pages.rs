//! A page that was served as one that never changes has the same bytes for ever, on every node.

use std::collections::HashMap;

use super::Violation;
use crate::observations::{ImmutablePage, Observations};

/// The name of the rule.
pub const RULE: &str = "pages";

/// Compares each page with the first time that it was served.
pub fn check(seen: &Observations) -> Vec<Violation> {
    let mut first: HashMap<&str, &ImmutablePage> = HashMap::new();
    let mut violations = Vec::new();
    for page in &seen.pages {
        let before = first.entry(&page.page).or_insert(page);
        if before.hash != page.hash {
            let (name, node, at) = (&page.page, page.node, page.answered_at);
            let (other, earlier) = (before.node, before.answered_at);
            violations.push(Violation::new(
                RULE,
                format!("{name} of node {node} at {at:?} differs from that of node {other} at {earlier:?}"),
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::evidence::millis;
    use super::*;

    #[test]
    fn a_page_that_changes_is_seen() {
        let page = |page: &str, node, hash| ImmutablePage { node, answered_at: millis(1), page: page.to_owned(), hash };
        let pages = vec![page("/a", 1, 7), page("/b", 1, 8), page("/a", 2, 7), page("/a", 1, 9)];
        let mut seen = Observations { pages, ..Observations::default() };
        assert_eq!(check(&seen).len(), 1);
        seen.pages.pop();
        assert_eq!(check(&seen), Vec::new());
    }
}
