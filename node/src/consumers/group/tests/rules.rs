//! One test per rule of contract/services 3.6.

use super::*;

fn take(group: &mut Group, now: Instant, count: usize) -> Vec<Handed> {
    let handed = group.take(now, count, NO_LIMIT);
    check(group);
    handed
}

fn settle(group: &mut Group, number: u64, settlement: Settlement) -> bool {
    let is_known = group.settle(id(number), settlement);
    check(group);
    is_known
}

#[test]
fn a_message_whose_time_is_up_comes_back_before_new_ones() {
    let (mut group, start) = (filled(&settings(), 8), Instant::now());
    assert_eq!(counts(&take(&mut group, start, 1)), [(0, 0)]);
    assert_eq!(counts(&take(&mut group, start + Duration::from_secs(1), 1)), [(1, 0)]);
    assert_eq!(group.next_deadline(), Some(start + TIMEOUT));
    group.expire(start + TIMEOUT - Duration::from_millis(1));
    assert_eq!(group.figures(start).outstanding, 2);
    group.expire(start + TIMEOUT);
    check(&group);
    assert_eq!(group.next_deadline(), Some(start + Duration::from_secs(1) + TIMEOUT));
    assert_eq!(counts(&take(&mut group, start + TIMEOUT, 2)), [(0, 1), (2, 0)]);
}

#[test]
fn without_a_timeout_a_message_is_out_for_ever() {
    let settings = Settings { message_timeout_milliseconds: 0, ..settings() };
    let (mut group, start) = (filled(&settings, 1), Instant::now());
    take(&mut group, start, 1);
    assert_eq!(group.next_deadline(), None);
    group.expire(start + Duration::from_secs(1_000_000));
    assert_eq!(group.figures(start + TIMEOUT).oldest_outstanding, Some(TIMEOUT));
    assert!(settle(&mut group, 0, Settlement::Acknowledge));
}

#[test]
fn a_message_is_parked_when_it_has_failed_once_more_than_it_may_be_retried() {
    let (mut group, start) = (filled(&settings(), 1), Instant::now());
    for retries in 0..3 {
        assert_eq!(counts(&take(&mut group, start, 1)), [(0, retries)]);
        assert!(!group.has_parking());
        assert!(settle(&mut group, 0, Settlement::Retry));
    }
    assert!(take(&mut group, start, 1).is_empty());
    let parking = Parking { key: Key::Source(0), origin: (0, "a".into()), reason: "Reached retry count of 2".into() };
    assert_eq!(group.parking(), [parking]);
    assert_eq!(group.progress().source.open, [Run { first: 0, last: 0, retries: 3 }]);
    group.parked(&[Key::Source(0), Key::Source(7)]);
    check(&group);
    assert_eq!((group.progress().checkpoint(), group.has_parking()), (0, false));
}

#[test]
fn the_original_words_say_that_a_consumer_wanted_a_message_parked() {
    let (mut group, start) = (filled(&settings(), 2), Instant::now());
    take(&mut group, start, 2);
    assert!(settle(&mut group, 1, Settlement::Park));
    assert!(!settle(&mut group, 1, Settlement::Acknowledge), "it is not out");
    assert_eq!(group.parking()[0].reason, "Client explicitly NAK'ed message.\nNacked from HTTP");
    assert!(settle(&mut group, 0, Settlement::Skip));
    assert_eq!(group.progress().checkpoint(), 0, "it is open until it is parked");
    group.parked(&[Key::Source(1)]);
    assert_eq!(group.progress().checkpoint(), 1);
    assert_eq!(group.figures(start).acknowledged, -1, "nobody has dealt with them");
}

#[test]
fn acknowledging_what_waits_is_ignored_and_what_another_consumer_has_is_not() {
    let (mut group, start) = (filled(&settings(), 1), Instant::now());
    take(&mut group, start, 1);
    group.expire(start + TIMEOUT);
    assert!(!settle(&mut group, 0, Settlement::Acknowledge), "it waits");
    assert!(!settle(&mut group, 5, Settlement::Acknowledge), "there is no such message");
    assert_eq!(counts(&take(&mut group, start + TIMEOUT, 1)), [(0, 1)]);
    assert!(settle(&mut group, 0, Settlement::Acknowledge), "late, by the first consumer");
    assert!(!settle(&mut group, 0, Settlement::Acknowledge), "by the second consumer");
    assert_eq!(group.figures(start).acknowledged, 0);
}

#[test]
fn two_messages_of_one_id_are_settled_one_by_one() {
    let (mut group, start) = (Group::new(&settings(), Progress::starting_at(0)), Instant::now());
    let twice = |number| Message { id: id(0), ..message(number) };
    group.read(vec![twice(0), message(1), twice(2)]);
    take(&mut group, start, 3);
    assert!(settle(&mut group, 0, Settlement::Acknowledge));
    assert_eq!(group.progress().source.open, [Run { first: 1, last: 2, retries: 0 }]);
    assert!(settle(&mut group, 0, Settlement::Acknowledge));
    assert!(!settle(&mut group, 0, Settlement::Acknowledge));
    assert_eq!(group.progress().source.open, [Run { first: 1, last: 1, retries: 0 }]);
}

#[test]
fn an_answer_has_a_bound_in_bytes_and_never_nothing() {
    let (mut group, start) = (filled(&settings(), 9), Instant::now());
    assert_eq!(numbers(&group.take(start, 9, 5)), [0]);
    assert_eq!(numbers(&group.take(start, 9, 29)), [1, 2]);
    assert_eq!(numbers(&group.take(start, 9, 30)), [3, 4, 5]);
    assert_eq!(numbers(&group.take(start, 0, 30)), [] as [u64; 0]);
    let consumer = group.attach(9);
    let dispatched = group.dispatch(start, 5);
    assert_eq!((dispatched.len(), dispatched[0].0, numbers(&dispatched[0].1)), (1, consumer, vec![6]));
    check(&group);
}

#[test]
fn what_was_not_sent_comes_back_with_the_same_count() {
    let (mut group, start) = (filled(&settings(), 3), Instant::now());
    take(&mut group, start, 2);
    group.give_back([Key::Source(1), Key::Source(2)]);
    check(&group);
    assert_eq!(counts(&take(&mut group, start, 2)), [(1, 0), (2, 0)]);
    group.gone([Key::Source(1), Key::Source(9)]);
    check(&group);
    assert_eq!(group.progress().source.open.len(), 2);
}

#[test]
fn what_a_consumer_had_comes_back_when_it_leaves_or_is_parked() {
    let settings = Settings { max_retry_count: 1, ..settings() };
    let (mut group, start) = (filled(&settings, 3), Instant::now());
    for retries in 0..2 {
        let consumer = group.attach(2);
        assert_eq!(counts(&group.dispatch(start, NO_LIMIT)[0].1), [(0, retries), (1, retries)]);
        group.detach(consumer);
        group.detach(consumer);
        check(&group);
    }
    let parking: Vec<_> = group.parking().into_iter().map(|parking| parking.key).collect();
    assert_eq!(parking, [Key::Source(0), Key::Source(1)]);
    assert_eq!(counts(&take(&mut group, start, 9)), [(2, 0)]);
}

#[test]
fn replayed_messages_come_before_all_others_and_do_not_move_the_checkpoint() {
    // New messages have the same numbers.
    let (mut group, start) = (filled(&settings(), 8), Instant::now());
    take(&mut group, start, 1);
    group.expire(start + TIMEOUT);
    assert!(group.replay(4, 7));
    assert!(!group.replay(4, 7), "one goes on");
    let wanted = group.wanted();
    assert_eq!((wanted.parked_from, wanted.parked_end, wanted.parked_room), (4, 7, 3));
    group.read_parked(vec![parked_message(4, 0), parked_message(6, 1), parked_message(7, 2)]);
    check(&group);
    let handed = take(&mut group, start, 3);
    assert_eq!(
        handed.iter().map(|handed| handed.key).collect::<Vec<_>>(),
        [Key::Parked(4), Key::Parked(6), Key::Source(0)]
    );
    for of in &handed[..2] {
        assert!(group.settle(of.id, Settlement::Acknowledge));
    }
    check(&group);
    assert_eq!(group.progress().checkpoint(), -1);
    assert_eq!(group.figures(start).acknowledged, -1);
    assert_eq!(group.progress().replay, None, "all of it is settled");
    assert!(group.replay(7, 7) && group.replay(7, 8), "an empty one is over at once");
    group.passed_parked(9);
    assert!(!group.figures(start).is_replaying, "its messages do not exist");
}

#[test]
fn a_replayed_message_is_parked_anew_as_what_it_leads_to() {
    let (mut group, start) = (Group::new(&settings(), Progress::starting_at(9)), Instant::now());
    assert!(group.replay(0, 1));
    group.read_parked(vec![parked_message(0, 5)]);
    let handed = take(&mut group, start, 1);
    assert!(group.settle(handed[0].id, Settlement::Park));
    assert_eq!((group.parking()[0].key, group.parking()[0].origin.0), (Key::Parked(0), 5));
    assert_eq!(group.progress().replay.map(|replay| replay.way.open.len()), Some(1));
    group.parked(&[Key::Parked(0)]);
    check(&group);
    assert_eq!(group.progress().replay, None);
}

#[test]
fn no_more_is_read_than_there_is_room_for() {
    let settings = Settings { buffer_size: 5, read_batch_size: 2, ..settings() };
    let (mut group, start) = (filled(&settings, 3), Instant::now());
    assert_eq!((group.wanted().source_from, group.wanted().source_room), (3, 2));
    group.read(vec![message(3), message(4)]);
    assert!(group.wanted().is_nothing());
    take(&mut group, start, 1);
    assert_eq!((group.wanted().source_from, group.wanted().source_room), (5, 1));
    group.read(vec![message(4)]);
    assert_eq!(group.wanted().source_room, 1, "it was read before");
    group.passed(90);
    assert_eq!(group.wanted().source_from, 90);
    check(&group);
}

#[test]
fn as_many_messages_are_held_as_may_be_and_the_group_says_so() {
    let settings = Settings { message_timeout_milliseconds: 0, buffer_size: i64::MAX, ..settings() };
    let (mut group, start) = (filled(&settings, MAX_BUFFERED_MESSAGES), Instant::now());
    assert!(group.wanted().is_nothing() && !group.figures(start).is_held_back);
    assert_eq!(take(&mut group, start, usize::MAX).len() as u64, MAX_BUFFERED_MESSAGES);
    assert!(group.wanted().is_nothing() && group.figures(start).is_held_back);
    assert!(group.replay(0, 1), "parked messages have room of their own");
    assert_eq!(group.wanted().parked_room, 1);
    assert!(settle(&mut group, 7, Settlement::Acknowledge));
    assert!(group.wanted().source_room == 1 && !group.figures(start).is_held_back);
}

#[test]
fn a_slow_message_does_not_hold_back_what_comes_after_it() {
    let settings = Settings { message_timeout_milliseconds: 0, ..settings() };
    let (mut group, start) = (filled(&settings, 1), Instant::now());
    take(&mut group, start, 1);
    for number in 1..3 * MAX_BUFFERED_MESSAGES {
        group.read(vec![message(number)]);
        assert_eq!(numbers(&group.take(start, 1, NO_LIMIT)), [number]);
        assert!(group.settle(id(number), Settlement::Acknowledge));
    }
    check(&group);
    assert_eq!(group.progress().source.open, [Run { first: 0, last: 0, retries: 0 }]);
    assert_eq!(group.progress().checkpoint(), -1);
}

#[test]
fn figures_tell_what_goes_on() {
    let (mut group, start) = (filled(&settings(), 6), Instant::now());
    take(&mut group, start, 1);
    let consumer = group.attach(3);
    group.dispatch(start + Duration::from_secs(2), NO_LIMIT);
    assert!(settle(&mut group, 1, Settlement::Retry));
    assert!(settle(&mut group, 3, Settlement::Acknowledge));
    assert!(settle(&mut group, 2, Settlement::Park));
    let figures = group.figures(start + Duration::from_secs(3));
    assert_eq!(
        figures,
        Figures {
            buffered: 2,
            retrying: 1,
            in_flight: 0,
            outstanding: 1,
            oldest_outstanding: Some(Duration::from_secs(3)),
            parking: 1,
            handed: 4,
            acknowledged: 3,
            is_replaying: false,
            is_held_back: false,
            consumers: vec![ConsumerFigures { id: consumer, handed: 3, in_flight: 0, free: 3 }],
        }
    );
}
