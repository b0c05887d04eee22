//! A state that is taken back to a position is the state as it was there.

use std::collections::BTreeMap;

use super::round_trip::wanted;
use super::*;
use crate::backup::restore::{Until, restore};
use crate::backup::verify;
use crate::store::{OfflineState, event_id_row, event_row, offline, options, stream_row};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn rows(data_dir: &Path, family: &str) -> Rows {
    let (_, database) = offline::current_database(&data_dir.join("state")).unwrap().unwrap();
    let state = OfflineState::open(&database).unwrap();
    let mut rows = Rows::new();
    let scanned = state.scan(family, &[], |key, value| {
        rows.insert(key.to_vec(), value.to_vec());
        std::ops::ControlFlow::Continue(())
    });
    scanned.unwrap();
    rows
}

/// Restores `archive` up to `next_position`, and finds nothing wrong with the result.
fn taken_back(fixture: &Fixture, archive: &Path, next_position: u64) -> PathBuf {
    let data_dir = fixture.directory.path().join(format!("back-{next_position}"));
    let until = Until::Position(next_position - 1);
    let restored = restore(&crate::backup::restore::Restore { until, ..wanted(&[archive], &data_dir) }).unwrap();
    assert_eq!(restored.next_position, next_position);
    let report = verify::data_directory(&data_dir, &mut |_, _, _| {});
    assert_eq!(report.damages(), 0, "{report}");
    data_dir
}

/// The position behind the last event of a restore up to this time.
fn end_until(fixture: &Fixture, archive: &Path, time: Ticks) -> u64 {
    let data_dir = fixture.directory.path().join(format!("until-{}", time.0));
    let until = Until::Time(time);
    restore(&crate::backup::restore::Restore { until, ..wanted(&[archive], &data_dir) }).unwrap().next_position
}

#[tokio::test]
async fn every_earlier_state_comes_back_with_metadata_deletions_and_index() {
    let mut fixture = Fixture::new();
    let mut earlier = Vec::new();
    for step in 0..16_u128 {
        let id = 1_000 * (step + 1);
        match step {
            0 => fixture.append("kept", id..id + 3).await,
            1 => fixture.describe("kept", id, r#"{"$maxCount":5}"#).await,
            2 => fixture.append("gone", id..id + 2).await,
            3 => fixture.describe("kept", id, r#"{"$maxCount":2,"$acl":{"$r":"ann"}}"#).await,
            4 => fixture.delete("kept", id, false).await,
            5 => fixture.append("kept", id..id + 1).await,
            6 => fixture.describe("only-described", id, r#"{"$maxAge":9}"#).await,
            7 => fixture.delete("gone", id, true).await,
            8 => fixture.append("late", id..id + 4).await,
            9 => fixture.delete("late", id, false).await,
            10 => fixture.describe("late", id, r#"{"$tb":1}"#).await,
            11 => fixture.describe("kept", id, "[1]").await,
            12 => fixture.append("kept", [id, id]).await,
            13 => fixture.delete("kept", id, true).await,
            14 => fixture.delete("only-described", id, true).await,
            _ => fixture.append("last", id..id + 1).await,
        }
        let (archive, manifest) = fixture.backup(&format!("{step}.tar"), None).await;
        let data_dir = fixture.directory.path().join(format!("at-{step}"));
        restore(&wanted(&[&archive], &data_dir)).unwrap();
        earlier.push((manifest.next_position, data_dir));
    }
    let (archive, _) = fixture.backup("all.tar", None).await;
    for (next_position, expected) in earlier {
        let found = taken_back(&fixture, &archive, next_position);
        assert_eq!(rows(&found, options::EVENT).len() as u64, next_position);
        for family in [options::EVENT, options::INDEX, options::STREAM, options::EVENT_ID] {
            assert_eq!(rows(&found, family), rows(&expected, family), "{family} at {next_position}");
        }
    }
}

#[tokio::test]
async fn ids_are_taken_back_where_they_had_been_written() {
    let mut fixture = Fixture::new();
    for thousand in 0..6_u128 {
        fixture.append("s", 1_000 * thousand + 1..1_000 * (thousand + 1) + 1).await;
    }
    let (archive, _) = fixture.backup("all.tar", None).await;
    let found = taken_back(&fixture, &archive, 2_500);
    let ids = rows(&found, options::EVENT_ID);
    assert_eq!(ids.len(), 2_500);
    assert!(ids.values().all(|value| event_id_row::number(value).unwrap() < 2_500));
    assert_eq!(rows(&found, options::EVENT).keys().next_back().unwrap()[..], event_row::key(2_499));
}

#[tokio::test]
async fn an_end_by_time_keeps_what_was_stamped_until_then() {
    let mut fixture = Fixture::new();
    for second in 1..=5_u128 {
        fixture.append("s", 10 * second..10 * second + 2).await;
    }
    let (archive, _) = fixture.backup("all.tar", None).await;
    for (ticks, next_position) in [(Ticks::PER_SECOND, 2), (3 * Ticks::PER_SECOND + 1, 6), (u64::MAX, 10)] {
        assert_eq!(end_until(&fixture, &archive, Ticks(ticks)), next_position);
    }
    let before = crate::backup::restore::Restore {
        until: Until::Time(Ticks(1)),
        ..wanted(&[&archive], &fixture.directory.path().join("before"))
    };
    assert!(restore(&before).is_err(), "nothing would be left");
}

#[tokio::test]
async fn an_end_by_time_is_found_among_the_older_times_of_an_import() {
    let mut fixture = Fixture::new();
    fixture.append("s", 1..3).await;
    let before_import = fixture.now();
    fixture.import("old", Ticks(7), 10..14).await;
    let after_import = fixture.now();
    fixture.append("s", 3..5).await;
    let (archive, _) = fixture.backup("all.tar", None).await;
    // The note of how far the import had come has the time of the import.
    for (until, next_position) in [(before_import.0 - 1, 6), (before_import.0, 7), (after_import.0, 9)] {
        assert_eq!(end_until(&fixture, &archive, Ticks(until)), next_position);
    }
}

/// What was removed stays removed; everything else is as it was at the wanted position, wherever
/// that lies: before the removal, among what it removed, or between two removals.
#[tokio::test]
async fn an_earlier_state_comes_back_without_what_was_removed_since() {
    let mut fixture = Fixture::new();
    let mut earlier = Vec::new();
    for step in 0..14_u128 {
        let id = 1_000 * (step + 1);
        match step {
            0 => fixture.append("counted", id..id + 6).await,
            1 => fixture.append("gone", id..id + 3).await,
            2 => fixture.describe("counted", id, r#"{"$maxCount":2}"#).await,
            3 => fixture.scavenge(&["counted"], Ticks(0)).await,
            4 => fixture.append("counted", id..id + 4).await,
            5 => fixture.delete("gone", id, false).await,
            6 => fixture.describe("counted", id, r#"{"$maxCount":1}"#).await,
            7 => fixture.append("other", id..id + 2).await,
            8 => fixture.append("gone", id..id + 2).await,
            9 => {
                let now = fixture.now();
                fixture.scavenge(&["counted", "gone", "$$counted"], now).await;
            }
            10 => fixture.append("counted", id..id + 1).await,
            11 => fixture.delete("other", id, true).await,
            12 => {
                let now = fixture.now();
                fixture.scavenge(&["counted", "gone", "other", "$$gone"], now).await;
            }
            _ => fixture.append("last", id..id + 1).await,
        }
        let (archive, manifest) = fixture.backup(&format!("{step}.tar"), None).await;
        let data_dir = fixture.directory.path().join(format!("at-{step}"));
        restore(&wanted(&[&archive], &data_dir)).unwrap();
        earlier.push((manifest.next_position, data_dir));
    }
    let (archive, _) = fixture.backup("all.tar", None).await;
    let whole = fixture.directory.path().join("whole");
    restore(&wanted(&[&archive], &whole)).unwrap();
    let remaining = rows(&whole, options::EVENT);
    let mut last_position = 0;
    for (next_position, expected) in earlier {
        if next_position == last_position {
            // A removal stores nothing: the state before it cannot be told from the one after it.
            continue;
        }
        last_position = next_position;
        let found = taken_back(&fixture, &archive, next_position);
        let is_left = |(position, _): &(Vec<u8>, Vec<u8>)| remaining.contains_key(position);
        let left: Rows = rows(&expected, options::EVENT).into_iter().filter(is_left).collect();
        assert_eq!(rows(&found, options::EVENT), left, "at {next_position}");
        let last_numbers = |data_dir: &Path| -> BTreeMap<String, Option<u64>> {
            let records = rows(data_dir, options::STREAM).into_iter().map(|(name, row)| {
                let name = String::from_utf8(name).unwrap();
                let last_number = stream_row::decode(&name, &row).unwrap().last_number;
                (name, last_number)
            });
            records.collect()
        };
        for (stream, last_number) in last_numbers(&expected) {
            let restored = last_numbers(&found).get(&stream).copied().flatten();
            // No number of the past is given twice.
            assert!(restored >= last_number, "{stream} at {next_position}: {restored:?} {last_number:?}");
        }
    }
}
