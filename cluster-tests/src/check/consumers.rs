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
    use crate::consumers::{Books, Fault, Settled, Wish};
    use crate::observations::GroupBooks;

    const ACKNOWLEDGE: Wish = Wish::Settle(Settled::Acknowledged);

    fn settle(books: &Books, wish: Wish) {
        books.accepted(books.tries(1, wish, [0]), Instant::now(), true);
    }

    fn judge(stored: u64, tell: impl Fn(&Books)) -> usize {
        let books = Arc::<Books>::default();
        tell(&books);
        books.tries(9, ACKNOWLEDGE, 0..stored);
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
        books.tries(1, ACKNOWLEDGE, [0]);
        assert_eq!(judge_as_told(2, books.clone()), 1);
        books.tries(1, ACKNOWLEDGE, [1]);
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
            settle(books, ACKNOWLEDGE);
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
            settle(books, Wish::Settle(Settled::Parked));
        };
        assert_eq!(judge(1, parked), 1);
    }

    #[test]
    fn what_a_consumer_asks_for_too_late_may_undo_what_another_settles() {
        let late = |wish: Wish, is_accepted: bool, then: Wish| {
            move |books: &Books| {
                books.got(1, Instant::now(), &[0]);
                let attempt = books.tries(1, wish, [0]);
                if is_accepted {
                    books.accepted(attempt, Instant::now(), false);
                }
                settle(books, then);
                books.got(2, Instant::now() + Duration::from_millis(1), &[0]);
            }
        };
        let park = Wish::Settle(Settled::Parked);
        for is_accepted in [true, false] {
            assert_eq!(judge(1, late(Wish::Retry, is_accepted, ACKNOWLEDGE)), 0);
            assert_eq!(judge(1, late(ACKNOWLEDGE, is_accepted, ACKNOWLEDGE)), 1, "it is settled in any case");
            assert_eq!(judge(1, late(ACKNOWLEDGE, is_accepted, park)), 1, "came again");
            assert_eq!(judge(1, late(Wish::Retry, is_accepted, park)), 0);
        }
    }

    #[test]
    fn what_was_asked_for_in_time_or_afterwards_is_no_excuse() {
        let in_time = |books: &Books| {
            books.got(1, Instant::now(), &[0]);
            settle(books, Wish::Retry);
            settle(books, ACKNOWLEDGE);
            books.tries(1, Wish::Retry, [0]);
            books.got(2, Instant::now() + Duration::from_millis(1), &[0]);
        };
        assert_eq!(judge(1, in_time), 1);
    }
}
