//! A change of rights is in force when it is answered: for writes, for reads on the node that
//! answered, and for reads on a node that has applied it.

use super::Violation;
use crate::observations::Observations;

/// The name of the rule.
pub const RULE: &str = "access";

/// How the names of streams with such lists begin.
pub const PREFIX: &str = "guarded-";

/// Judges every try.
pub fn check(seen: &Observations) -> Vec<Violation> {
    let wrong = seen.access.iter().filter(|tried| tried.may != tried.did);
    wrong
        .map(|tried| {
            let (node, at, what, stream) = (tried.node, tried.at, tried.what, &tried.stream);
            let (is, should) = if tried.did { ("admitted", "denied") } else { ("denied", "admitted") };
            Violation::new(RULE, format!("node {node}: {what} of {stream} at {at:?} was {is}, and had to be {should}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::evidence::millis;
    use super::*;
    use crate::observations::AccessTry;

    #[test]
    fn who_is_admitted_or_denied_against_the_newest_list_is_seen() {
        let tried = |may, did| AccessTry { node: 1, at: millis(1), what: "a read", stream: "a".to_owned(), may, did };
        let judge = |tried| check(&Observations { access: vec![tried], ..Observations::default() }).len();
        assert_eq!(judge(tried(true, true)) + judge(tried(false, false)), 0);
        assert_eq!(judge(tried(false, true)), 1);
        assert_eq!(judge(tried(true, false)), 1);
    }
}
