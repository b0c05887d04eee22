//! Damage is found and named.

use super::round_trip::wanted;
use super::*;
use crate::backup::restore::restore;
use crate::backup::source::BackupSource;
use crate::backup::verify::{self, Report, VerifyError};
use crate::store::{event_id_row, index_row, offline, options};

/// A restored state of two streams, 200 events each.
async fn restored() -> (Fixture, PathBuf) {
    let mut fixture = Fixture::new();
    for turn in 0..20_u128 {
        fixture.append("a", 100 * turn + 1..100 * turn + 11).await;
        fixture.append("b", 100 * turn + 51..100 * turn + 61).await;
    }
    let (archive, _) = fixture.backup("b.tar", None).await;
    let data_dir = fixture.directory.path().join("restored");
    restore(&wanted(&[&archive], &data_dir)).unwrap();
    (fixture, data_dir)
}

fn report(data_dir: &Path) -> Report {
    verify::data_directory(data_dir, &mut |_, _, _| {})
}

fn database(data_dir: &Path) -> PathBuf {
    offline::current_database(&data_dir.join("state")).unwrap().unwrap().1
}

/// Changes rows behind the back of everybody.
fn change(data_dir: &Path, change: impl FnOnce(&rocksdb::DB)) {
    let cache = options::block_cache(CACHE_BYTES);
    let present = rocksdb::DB::list_cf(&options::database(false, 100), database(data_dir)).unwrap();
    let families = options::families_of(&present, &cache);
    let db = rocksdb::DB::open_cf_descriptors(&options::database(false, 100), database(data_dir), families).unwrap();
    change(&db);
    for family in options::FAMILIES {
        db.flush_cf(db.cf_handle(family).unwrap()).unwrap();
    }
}

#[tokio::test]
async fn rows_that_do_not_fit_together_are_named_with_stream_number_and_position() {
    let (_fixture, data_dir) = restored().await;
    assert_eq!(report(&data_dir).damages(), 0);
    change(&data_dir, |db| {
        // The first stream has numeric id 0, and its event 3 is at position 3.
        db.delete_cf(db.cf_handle(options::INDEX).unwrap(), index_row::key(0, 199)).unwrap();
        let event = crate::store::event_row::key(3);
        db.delete_cf(db.cf_handle(options::EVENT).unwrap(), event).unwrap();
    });
    let found = report(&data_dir);
    let text = found.to_string();
    assert!(text.contains("events at positions 3 to 3 are missing; among them are events 3 of stream 'a'"), "{text}");
    assert!(text.contains("event 3 of stream 'a', at position 3, is missing"), "{text}");
    assert!(text.contains("event 199 of stream 'a', at position 389, is not in the index"), "{text}");
}

#[tokio::test]
async fn an_id_without_its_event_is_named() {
    let (_fixture, data_dir) = restored().await;
    change(&data_dir, |db| {
        let key = event_id_row::key(1, Uuid::from_u128(99_999));
        db.put_cf(db.cf_handle(options::EVENT_ID).unwrap(), key, event_id_row::value(5)).unwrap();
    });
    let text = report(&data_dir).to_string();
    assert!(
        text.contains(&format!("event id {} is recorded for event 5 of stream 'b'", Uuid::from_u128(99_999))),
        "{text}"
    );
}

#[tokio::test]
async fn a_flipped_bit_in_a_table_is_found_and_its_file_named() {
    let (_fixture, data_dir) = restored().await;
    let tables = std::fs::read_dir(database(&data_dir)).unwrap().map(|entry| entry.unwrap().path());
    let largest = tables
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    let text = report(&data_dir).to_string();
    assert!(text.contains(largest.file_name().unwrap().to_str().unwrap()), "{text}");
    assert!(!text.contains("nothing is wrong"), "{text}");
}

/// The files of a directory whose name begins so.
fn named(directory: &Path, beginning: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(beginning)).collect()
}

#[tokio::test]
async fn a_flipped_bit_in_a_manifest_and_in_what_names_it_is_found_and_the_file_named() {
    let (_fixture, data_dir) = restored().await;
    for directory in [database(&data_dir), data_dir.join("log")] {
        for file in ["MANIFEST-", "CURRENT"].into_iter().flat_map(|name| named(&directory, name)) {
            let whole = std::fs::read(&file).unwrap();
            for at in [0, whole.len() / 2] {
                let mut changed = whole.clone();
                changed[at] ^= 1;
                std::fs::write(&file, changed).unwrap();
                let text = report(&data_dir).to_string();
                assert!(text.contains(&format!("{} is damaged", file.display())), "byte {at}: {text}");
            }
            std::fs::write(&file, whole).unwrap();
        }
    }
    assert_eq!(report(&data_dir).damages(), 0);
}

#[tokio::test]
async fn each_file_of_a_backup_has_its_checksum_in_the_manifest() {
    let (fixture, _) = restored().await;
    let (archive, manifest) = fixture.backup("whole.tar", None).await;
    let directory = fixture.directory.path().join("backup-directory");
    std::fs::create_dir_all(directory.join("state")).unwrap();
    archive::read(std::fs::File::open(&archive).unwrap(), |name, _, content| {
        archive::copy(content, &mut std::fs::File::create(directory.join("state").join(name))?).map(drop)
    })
    .unwrap();
    manifest.write(&directory).unwrap();
    let verify = || {
        let sources = [BackupSource::Directory(directory.clone())];
        verify::verify(&sources, fixture.directory.path(), &mut |_, _, _| {}).unwrap()
    };
    assert_eq!(verify().damages(), 0);
    for small in ["MANIFEST-", "CURRENT", "OPTIONS-"] {
        assert!(manifest.files.iter().any(|file| file.name.starts_with(small)), "{small} is in the manifest");
    }
    for file in named(&directory.join("state"), "") {
        let whole = std::fs::read(&file).unwrap();
        let mut changed = whole.clone();
        match changed.last_mut() {
            Some(last) => *last ^= 1,
            // A write-ahead file, which the state does not use: not even its size may change.
            None => changed.push(1),
        }
        std::fs::write(&file, changed).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = verify().to_string();
        assert!(text.contains(&format!("{name} has ")), "{text}");
        std::fs::write(&file, whole).unwrap();
    }
}

#[tokio::test]
async fn a_backup_with_a_changed_file_is_refused_by_name() {
    let (fixture, _) = restored().await;
    let mut archive = fixture.archive(None).await;
    let at = archive.len() / 2;
    archive[at] ^= 1;
    let path = fixture.directory.path().join("changed.tar");
    std::fs::write(&path, archive).unwrap();
    let error = restore(&wanted(&[&path], &fixture.directory.path().join("r"))).unwrap_err();
    assert!(error.to_string().contains("changed.tar"), "{error}");
    let scratch = fixture.directory.path();
    let verified = verify::verify(&[BackupSource::Archive(path)], scratch, &mut |_, _, _| {});
    assert!(matches!(verified, Err(VerifyError::Source(_))));
}

#[tokio::test]
async fn a_directory_in_use_and_one_that_is_no_data_directory_are_refused() {
    let (fixture, data_dir) = restored().await;
    let verify = |path: &Path| {
        verify::verify(&[BackupSource::Directory(path.to_owned())], fixture.directory.path(), &mut |_, _, _| {})
    };
    assert_eq!(verify(&data_dir).unwrap().damages(), 0);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(verify(empty.path()), Err(VerifyError::Unknown(_))));
}
