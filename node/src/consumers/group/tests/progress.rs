//! What is kept of a group, and how it goes on from that.

use super::*;

fn open(progress: &Progress) -> Vec<(u64, u64, u32)> {
    progress.source.open.iter().map(|run| (*run).into()).collect()
}

fn progress(next: u64, open: &[(u64, u64, u32)]) -> Progress {
    let open = open.iter().map(|run| Run::from(*run)).collect();
    Progress { source: Way { next, open }, ..Progress::starting_at(0) }
}

#[test]
fn neighbours_with_equal_counts_are_kept_as_one_run() {
    let (mut group, start) = (filled(&settings(), 12), Instant::now());
    group.take(start, 8, NO_LIMIT);
    assert_eq!((group.progress().source.next, open(&group.progress())), (8, vec![(0, 7, 0)]));
    for number in [3, 7] {
        assert!(group.settle(id(number), Settlement::Acknowledge));
    }
    for number in [4, 5] {
        assert!(group.settle(id(number), Settlement::Retry));
    }
    assert!(group.settle(id(2), Settlement::Park));
    let progress = group.progress();
    assert_eq!((progress.source.next, open(&progress)), (8, vec![(0, 2, 0), (4, 5, 1), (6, 6, 0)]));
    assert_eq!((progress.checkpoint(), progress.settled, progress.failed), (-1, 2, 2));
    assert!(group.settle(id(0), Settlement::Acknowledge));
    assert_eq!((group.settled_since_checkpoint(), group.has_failed_since_checkpoint()), (3, true));
    group.checkpointed(&progress);
    assert_eq!((group.settled_since_checkpoint(), group.has_failed_since_checkpoint()), (1, false));
    assert_eq!(group.progress().checkpoint(), 0);
}

#[test]
fn what_was_read_ahead_is_not_open() {
    let mut group = filled(&settings(), 5);
    assert_eq!(group.progress(), Progress::starting_at(0));
    group.passed(50);
    assert_eq!(group.progress(), Progress::starting_at(0));
    group.take(Instant::now(), 4, NO_LIMIT);
    assert_eq!((group.progress().source.next, open(&group.progress())), (4, vec![(0, 3, 0)]));
    group.take(Instant::now(), 1, NO_LIMIT);
    assert_eq!((group.progress().source.next, open(&group.progress())), (50, vec![(0, 4, 0)]));
    assert_eq!(group.passed_since_checkpoint(), 50);
    let progress = group.progress();
    group.checkpointed(&progress);
    assert_eq!(group.passed_since_checkpoint(), 0);
    for number in 0..5 {
        assert!(group.settle(id(number), Settlement::Acknowledge));
    }
    assert_eq!(group.progress().checkpoint(), 49, "gaps count as settled");
}

#[test]
fn a_group_begins_behind_what_is_settled() {
    let group = Group::new(&settings(), Progress::starting_at(7));
    assert_eq!((group.wanted().source_from, group.wanted().reread), (7, None));
    assert_eq!((group.progress().checkpoint(), Progress::starting_at(0).checkpoint()), (6, -1));
}

#[test]
fn open_messages_are_read_again_with_their_counts_before_new_ones() {
    let settings = Settings { buffer_size: 4, read_batch_size: 1, ..settings() };
    let stored = progress(20, &[(2, 3, 1), (5, 5, 0), (8, 9, 2), (15, 15, 0)]);
    let mut group = Group::new(&settings, stored.clone());
    assert_eq!(group.progress(), stored, "nothing is lost before it was read");
    assert_eq!(group.wanted().reread, Some((Which::Source, 2..=15)));
    assert_eq!(group.wanted().source_room, 0);
    group.reread(Which::Source, 3..=5, vec![message(3)]);
    assert_eq!(group.progress(), stored, "the first one is left out");
    group.reread(Which::Source, 2..=4, (1..9).map(message).collect());
    check(&group);
    assert_eq!(group.progress(), stored);
    assert_eq!(group.wanted().reread, Some((Which::Source, 5..=15)));
    assert_eq!(counts(&group.take(Instant::now(), 9, NO_LIMIT)), [(2, 1), (3, 1)]);
    group.reread(Which::Source, 5..=8, vec![message(5), message(6)]);
    check(&group);
    assert_eq!(open(&group.progress()), [(2, 3, 1), (5, 5, 0), (9, 9, 2), (15, 15, 0)], "8 is gone");
    group.reread(Which::Source, 9..=30, vec![message(9), message(15), message(22)]);
    assert_eq!(counts(&group.take(Instant::now(), 9, NO_LIMIT)), [(5, 0), (9, 2), (15, 0)]);
    assert_eq!((group.wanted().reread, group.wanted().source_from, group.wanted().source_room), (None, 20, 4));
    check(&group);
}

#[test]
fn a_message_that_had_to_be_parked_for_its_count_is_parked_by_the_next_leader() {
    let mut group = Group::new(&settings(), progress(4, &[(0, 0, 3), (1, 1, 2), (2, 2, 99)]));
    group.reread(Which::Source, 0..=2, (0..3).map(message).collect());
    check(&group);
    assert_eq!(group.parking().iter().map(|parking| parking.key.number()).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(counts(&group.take(Instant::now(), 9, NO_LIMIT)), [(1, 2)]);
    assert_eq!(open(&group.progress()), [(0, 0, 3), (1, 1, 2), (2, 2, 99)]);
}

#[test]
fn what_the_last_leader_has_handed_out_can_be_settled_until_it_is_handed_out_again() {
    let way = progress(8, &[(0, 6, 2)]);
    let mut group = Group::new(&settings(), way);
    assert!(!group.settle(id(0), Settlement::Acknowledge), "its id is not known yet");
    group.reread(Which::Source, 0..=6, (0..7).map(message).collect());
    group.read(vec![message(8)]);
    assert!(!group.settle(id(8), Settlement::Acknowledge), "it is new");
    for (number, settlement) in
        [(1, Settlement::Acknowledge), (2, Settlement::Skip), (3, Settlement::Park), (4, Settlement::Retry)]
    {
        assert!(group.settle(id(number), settlement));
        check(&group);
        assert!(!group.settle(id(number), settlement));
    }
    group.gone([Key::Source(5)]);
    group.give_back([Key::Source(6)]);
    check(&group);
    assert_eq!(group.parking().iter().map(|parking| parking.key.number()).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(open(&group.progress()), [(0, 0, 2), (3, 3, 2), (4, 4, 3), (6, 6, 2)]);
    assert_eq!(counts(&group.take(Instant::now(), 9, NO_LIMIT)), [(0, 2), (6, 2), (8, 0)]);
}

#[test]
fn a_lane_goes_on_when_the_last_leaders_message_is_settled() {
    let mut group = Group::new(&with(Strategy::OrderedByStream), progress(5, &[(0, 4, 0)]));
    group.reread(Which::Source, 0..=4, (0..5).map(|number| in_lane(number, 7)).collect());
    for number in [1, 0] {
        assert!(group.settle(id(number), Settlement::Acknowledge));
        check(&group);
    }
    assert_eq!(numbers(&group.take(Instant::now(), 9, NO_LIMIT)), [2]);
    assert!(group.settle(id(3), Settlement::Acknowledge));
    check(&group);
    assert!(group.take(Instant::now(), 9, NO_LIMIT).is_empty(), "one is out");
    assert!(group.settle(id(2), Settlement::Acknowledge));
    assert_eq!(numbers(&group.take(Instant::now(), 9, NO_LIMIT)), [4]);
}

#[test]
fn a_replay_goes_on_where_it_was() {
    let (mut group, start) = (Group::new(&settings(), Progress::starting_at(3)), Instant::now());
    assert!(group.replay(10, 14));
    group.read_parked((10..13).map(|number| parked_message(number, 0)).collect());
    let handed = group.take(start, 2, NO_LIMIT);
    assert!(group.settle(handed[1].id, Settlement::Acknowledge));
    let stored = group.progress();
    let replay = stored.replay.clone().unwrap();
    assert_eq!((replay.way.next, replay.way.first_open(), replay.end), (12, 10, 14));

    let mut group = Group::new(&settings(), stored.clone());
    assert_eq!(group.progress(), stored);
    assert_eq!(group.wanted().reread, Some((Which::Parked, 10..=10)));
    assert!(!group.replay(0, 99));
    group.reread(Which::Parked, 10..=10, vec![]);
    assert_eq!((group.wanted().parked_from, group.wanted().parked_room), (12, 2));
    group.passed_parked(14);
    assert_eq!(group.progress(), Progress { settled: 2, ..Progress::starting_at(3) });
}

#[test]
fn progress_is_stored_as_numbers_and_read_again() {
    let stored = Progress { settled: 9, failed: 1, ..progress(20, &[(2, 3, 1), (5, 5, 0)]) };
    let text = r#"{"source":{"next":20,"open":[[2,3,1],[5,5,0]]},"settled":9,"failed":1}"#;
    assert_eq!(serde_json::to_string(&stored).unwrap(), text);
    assert_eq!(serde_json::from_str::<Progress>(text).unwrap(), stored);
    let least = r#"{"source":{"next":7}}"#;
    assert_eq!(serde_json::from_str::<Progress>(least).unwrap(), Progress::starting_at(7));
}

#[test]
fn progress_that_makes_no_sense_is_an_error() {
    for open in ["[[3,2,0]]", "[[5,5,0],[4,4,0]]", "[[4,5,0],[5,6,0]]", "[[9,20,0]]", "[[1,-2,0]]", "[[1,2]]"] {
        let text = format!(r#"{{"source":{{"next":20,"open":{open}}}}}"#);
        assert!(serde_json::from_str::<Progress>(&text).is_err(), "{open}");
    }
}
