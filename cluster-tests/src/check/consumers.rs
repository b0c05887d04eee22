//! Consumers of a group get every stored message, in order, and none that was never stored.

use std::time::Instant;

use super::Violation;
use crate::observations::Observations;

/// The name of the rule.
pub const RULE: &str = "consumers";

/// Judges the books of every group.
pub fn check(seen: &Observations) -> Vec<Violation> {
    let of_group = |of: &crate::observations::GroupBooks| {
        let faults = of.books.faults(of.stored, &of.parked, Instant::now());
        let group = of.group.clone();
        faults.into_iter().map(move |what| Violation::new(RULE, format!("{group}: {what}")))
    };
    seen.groups.iter().flat_map(of_group).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::consumers::{Books, Fault, Settled};
    use crate::observations::GroupBooks;

    fn judge(stored: u64, tell: impl Fn(&Books)) -> usize {
        let books = Arc::<Books>::default();
        tell(&books);
        books.tries(0..stored);
        judge_as_told(stored, books)
    }

    fn judge_as_told(stored: u64, books: Arc<Books>) -> usize {
        let of = GroupBooks { group: "g".to_owned(), stored, parked: Vec::new(), books };
        check(&Observations { groups: vec![of], ..Observations::default() }).len()
    }

    #[test]
    fn a_message_that_nobody_got_or_that_was_never_stored_is_seen() {
        assert_eq!(judge(2, |books| books.got(1, Instant::now(), &[0, 1])), 0);
        assert_eq!(judge(3, |books| books.got(1, Instant::now(), &[0, 1])), 1);
        assert_eq!(judge(1, |books| books.got(1, Instant::now(), &[0, 1])), 1);
    }

    #[test]
    fn a_message_that_its_consumer_forgot_and_that_never_came_again_is_seen() {
        let books = Arc::<Books>::default();
        books.got(1, Instant::now(), &[0, 1]);
        books.tries([0]);
        assert_eq!(judge_as_told(2, books.clone()), 1);
        books.tries([1]);
        assert_eq!(judge_as_told(2, books), 0);
    }

    #[test]
    fn new_messages_out_of_order_are_seen() {
        assert_eq!(judge(2, |books| books.got(1, Instant::now(), &[1, 0])), 1);
    }

    #[test]
    fn a_settled_message_may_come_again_after_a_fault_only() {
        let again = |books: &Books| {
            books.got(1, Instant::now(), &[0]);
            books.settle(0, Settled::Acknowledged, Instant::now());
            books.got(2, Instant::now() + Duration::from_millis(1), &[0]);
        };
        assert_eq!(judge(1, again), 1);
        let after_fault = |books: &Books| {
            books.fault(Fault::begins());
            again(books);
        };
        assert_eq!(judge(1, after_fault), 0);
        let after_change = |from: Duration| {
            move |books: &Books| {
                again(books);
                books.leader_changed(Instant::now() + from, Instant::now() + Duration::from_secs(60));
            }
        };
        assert_eq!(judge(1, after_change(Duration::ZERO)), 0);
        assert_eq!(judge(1, after_change(Duration::from_secs(30))), 1);
    }

    #[test]
    fn a_message_that_was_to_be_parked_and_is_not_is_seen() {
        let parked = |books: &Books| {
            books.got(1, Instant::now(), &[0]);
            books.settle(0, Settled::Parked, Instant::now());
        };
        assert_eq!(judge(1, parked), 1);
    }
}
