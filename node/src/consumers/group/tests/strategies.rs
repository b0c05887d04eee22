//! How messages are shared out to connected consumers.

use std::collections::BTreeMap;

use super::*;

/// What each consumer gets, by the order of its arrival.
fn dispatch(group: &mut Group, consumers: &[ConsumerId]) -> Vec<Vec<u64>> {
    let dispatched: BTreeMap<_, _> = group.dispatch(Instant::now(), NO_LIMIT).into_iter().collect();
    check(group);
    consumers.iter().map(|consumer| dispatched.get(consumer).map_or(Vec::new(), |handed| numbers(handed))).collect()
}

fn acknowledge(group: &mut Group, messages: &[u64]) {
    for number in messages {
        assert!(group.settle(id(*number), Settlement::Acknowledge), "{number}");
    }
}

#[test]
fn round_robin_goes_from_one_to_the_next_with_room() {
    let mut group = filled(&with(Strategy::RoundRobin), 10);
    let consumers = [group.attach(1), group.attach(3), group.attach(2)];
    assert_eq!(dispatch(&mut group, &consumers), [vec![0], vec![1, 3, 5], vec![2, 4]]);
    acknowledge(&mut group, &[1, 4, 0]);
    assert_eq!(dispatch(&mut group, &consumers), [vec![7], vec![8], vec![6]], "the second one got the last");
}

#[test]
fn two_consumers_get_every_other_message_whatever_the_steps() {
    let mut group = filled(&with(Strategy::RoundRobin), 0);
    let consumers = [group.attach(10), group.attach(10)];
    for number in 0..6 {
        group.read(vec![message(number)]);
        let expected = if number % 2 == 0 { [vec![number], vec![]] } else { [vec![], vec![number]] };
        assert_eq!(dispatch(&mut group, &consumers), expected);
    }
}

#[test]
fn a_single_consumer_gets_all_while_it_has_room() {
    let mut group = filled(&with(Strategy::DispatchToSingle), 6);
    let consumers = [group.attach(2), group.attach(3)];
    assert_eq!(dispatch(&mut group, &consumers), [vec![0, 1], vec![2, 3, 4]]);
    acknowledge(&mut group, &[3, 0]);
    assert_eq!(dispatch(&mut group, &consumers), [vec![5], vec![]]);
}

#[test]
fn a_window_of_nothing_takes_one_message() {
    let mut group = filled(&with(Strategy::RoundRobin), 3);
    let consumers = [group.attach(0)];
    assert_eq!(dispatch(&mut group, &consumers), [[0]]);
    assert!(dispatch(&mut group, &consumers)[0].is_empty());
}

/// The lanes that each consumer gets of one message in every bucket.
fn shares(group: &mut Group, consumers: &[ConsumerId]) -> Vec<Vec<u64>> {
    let next = group.wanted().source_from;
    let buckets = pinned::BUCKETS as u64;
    group.read((0..buckets).map(|lane| in_lane(next + lane, lane)).collect());
    let shares = dispatch(group, consumers);
    shares.iter().for_each(|share| acknowledge(group, share));
    shares.into_iter().map(|share| share.into_iter().map(|number| number - next).collect()).collect()
}

#[test]
fn buckets_stay_with_their_consumer_and_are_shared_out_evenly() {
    let settings = Settings { buffer_size: 2_000, ..with(Strategy::Pinned) };
    let mut group = filled(&settings, 0);
    let first = group.attach(2_000);
    assert_eq!(shares(&mut group, &[first])[0].len(), 1_024);
    let second = group.attach(2_000);
    let two = shares(&mut group, &[first, second]);
    assert_eq!(two.iter().map(Vec::len).collect::<Vec<_>>(), [512, 512]);
    assert_eq!(shares(&mut group, &[first, second]), two);

    let third = group.attach(2_000);
    let three = shares(&mut group, &[first, second, third]);
    let lengths: Vec<_> = three.iter().map(Vec::len).collect();
    assert!(lengths.iter().all(|length| (341..=342).contains(length)), "{lengths:?}");
    for (now, before) in three.iter().zip(&two) {
        assert!(now.iter().all(|lane| before.contains(lane)), "only the new one has got lanes");
    }
    group.detach(first);
    let left = shares(&mut group, &[second, third]);
    assert_eq!(left.iter().map(Vec::len).collect::<Vec<_>>(), [512, 512]);
    for (now, before) in left.iter().zip(&three[1..]) {
        assert!(before.iter().all(|lane| now.contains(lane)), "nobody has lost a lane");
    }
}

#[test]
fn messages_of_a_full_consumer_are_passed_over() {
    let mut group = Group::new(&with(Strategy::Pinned), Progress::starting_at(0));
    let consumers = [group.attach(2), group.attach(9)];
    // Finds two lanes of different consumers.
    let owned = |group: &Group, lane: u64| group.waiting.owner(lane) == Some(consumers[0]);
    let ours = (0..1_024).find(|lane| owned(&group, *lane)).unwrap();
    let theirs = (0..1_024).find(|lane| !owned(&group, *lane)).unwrap();
    let lanes = [ours, ours, ours, theirs, ours, theirs];
    group.read(lanes.iter().zip(0..).map(|(lane, number)| in_lane(number, *lane)).collect());
    assert_eq!(dispatch(&mut group, &consumers), [vec![0, 1], vec![3, 5]]);
    let progress = group.progress();
    assert_eq!((progress.source.next, &progress.source.open[..]), (6, &[Run { first: 0, last: 5, retries: 0 }][..]));
    acknowledge(&mut group, &[5, 1]);
    assert_eq!(dispatch(&mut group, &consumers), [vec![2], vec![]]);
    assert_eq!(numbers(&group.take(Instant::now(), 9, NO_LIMIT)), [4], "who asks gets any");
    group.detach(consumers[0]);
    assert_eq!(dispatch(&mut group, &consumers[1..]), [[0, 2]], "the other one inherits");
}

#[test]
fn a_lane_has_one_message_out_at_a_time() {
    let mut group = Group::new(&with(Strategy::OrderedByStream), Progress::starting_at(0));
    let lanes = [1, 1, 2, 1, 2, 3];
    group.read(lanes.iter().zip(0..).map(|(lane, number)| in_lane(number, *lane)).collect());
    let start = Instant::now();
    assert_eq!(numbers(&group.take(start, 9, NO_LIMIT)), [0, 2, 5]);
    assert!(group.take(start, 9, NO_LIMIT).is_empty());
    check(&group);
    assert!(group.settle(id(0), Settlement::Retry));
    let consumers = [group.attach(9)];
    assert_eq!(dispatch(&mut group, &consumers), [[0]], "the same one before the next");
    acknowledge(&mut group, &[0, 2]);
    assert_eq!(dispatch(&mut group, &consumers), [[1, 4]]);
    assert!(group.settle(id(1), Settlement::Park));
    assert_eq!(dispatch(&mut group, &consumers), [[3]], "one that has to be parked holds up nobody");
}

#[test]
fn after_a_change_of_leader_a_lane_goes_on_with_its_oldest_message() {
    let settings = Settings { buffer_size: 2, read_batch_size: 1, ..with(Strategy::OrderedByStream) };
    let open = vec![Run { first: 0, last: 3, retries: 1 }, Run { first: 5, last: 5, retries: 0 }];
    let way = Way { next: 6, open };
    let mut group = Group::new(&settings, Progress { source: way, ..Progress::starting_at(0) });
    let mut handed = Vec::new();
    loop {
        if let Some((which, range)) = group.wanted().reread {
            let range = *range.start()..=*range.start() + 1;
            group.reread(which, range.clone(), range.map(|number| in_lane(number, 7)).collect());
            check(&group);
        }
        let next = group.take(Instant::now(), 9, NO_LIMIT);
        if next.is_empty() {
            break;
        }
        assert_eq!(next.len(), 1);
        handed.extend(counts(&next));
        acknowledge(&mut group, &numbers(&next));
    }
    assert_eq!(handed, [(0, 1), (1, 1), (2, 1), (3, 1), (5, 0)]);
}
