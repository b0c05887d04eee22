use std::time::{Duration, Instant};

use super::*;
use crate::backup::compare::{Copy, compare};
use crate::backup::restore::{Restore, RestoreError, ServerSet, Until, restore};
use crate::backup::source::BackupSource;
use crate::backup::take::BackupError;
use crate::backup::verify;
use crate::cluster::identity::Identity;
use crate::store::{OfflineState, offline};
use crate::transport::Member;

pub(super) fn wanted(sources: &[&Path], data_dir: &Path) -> Restore {
    Restore {
        sources: sources.iter().map(|path| BackupSource::of(path.to_str().unwrap())).collect(),
        data_dir: data_dir.to_owned(),
        server_id: 1,
        addresses: Member::at("127.0.0.1:1", "127.0.0.1:2"),
        set: None,
        until: Until::End,
    }
}

#[tokio::test]
async fn an_incremental_backup_sends_only_new_tables_and_restores_with_its_base() {
    let mut fixture = Fixture::new();
    fixture.append("s", 1..200).await;
    let (base, first) = fixture.backup("base.tar", None).await;
    assert_eq!((first.next_position, first.applied), (199, crate::backup::manifest::Applied { term: 3, index: 1 }));
    fixture.append("s", 200..300).await;
    let (more, second) = fixture.backup("more.tar", Some(first.clone())).await;
    let old = |manifest: &Manifest| manifest.files.iter().filter(|file| file.is_table()).count();
    assert!(old(&first) > 0);
    let taken_over = second.files.iter().filter(|file| file.in_base).count();
    assert!(taken_over > 0 && taken_over < old(&second), "{second:?}");

    let data_dir = fixture.directory.path().join("restored");
    let error = restore(&wanted(&[&more], &data_dir)).unwrap_err();
    assert!(error.to_string().contains("name that one first"), "{error}");
    assert!(!data_dir.exists(), "a restore that failed leaves nothing");
    std::fs::create_dir(&data_dir).unwrap();
    restore(&wanted(&[&more], &data_dir)).unwrap_err();
    assert_eq!(std::fs::read_dir(&data_dir).unwrap().count(), 0, "an empty directory of somebody else stays");
    let restored = restore(&wanted(&[&base, &more], &data_dir)).unwrap();
    assert_eq!(restored.next_position, 299);
    let report = verify::data_directory(&data_dir, &mut |_, _, _| {});
    assert_eq!((report.damages(), report.events), (0, 299), "{report}");
    let again = restore(&wanted(&[&base, &more], &data_dir)).unwrap_err();
    assert!(matches!(again, RestoreError::NotEmpty(_)), "{again}");
}

#[tokio::test]
async fn a_former_backup_of_another_database_spares_nothing() {
    let mut fixture = Fixture::new();
    fixture.append("s", 1..200).await;
    let (_, mut former) = fixture.backup("base.tar", None).await;
    former.database = "1.000000000000-1".into();
    let (_, second) = fixture.backup("more.tar", Some(former.clone())).await;
    assert!(second.files.iter().all(|file| !file.in_base));
    // The same name of a database, but other files: a disk that was put back.
    former.database.clone_from(&second.database);
    former.files.iter_mut().for_each(|file| file.tail_crc32c ^= 1);
    let (_, third) = fixture.backup("again.tar", Some(former)).await;
    assert!(third.files.iter().all(|file| !file.in_base));
}

#[tokio::test]
async fn one_backup_runs_at_a_time_and_nothing_is_left_of_one_whose_receiver_went_away() {
    let mut fixture = Fixture::new();
    fixture.append("s", 1..50).await;
    let request = || BackupRequest { since: None, bytes_per_second: Some(1) };
    let pieces = fixture.backups.begin(request(), &Administrator::assumed()).await.unwrap();
    assert!(matches!(fixture.backups.begin(request(), &Administrator::assumed()).await, Err(BackupError::Busy)));
    let checkpoints = fixture.directory.path().join("backup");
    let left = || std::fs::read_dir(&checkpoints).unwrap().count();
    assert_eq!(left(), 1);
    drop(pieces);
    let deadline = Instant::now() + Duration::from_secs(20);
    while left() > 0 {
        assert!(Instant::now() < deadline, "the checkpoint was not removed");
        tokio::task::yield_now().await;
    }
    assert_eq!(manifest_of(&fixture.backup("b.tar", None).await.0).next_position, 49);
}

#[tokio::test]
async fn what_a_crash_left_of_a_backup_is_removed_at_the_start() {
    let fixture = Fixture::new();
    let left = fixture.directory.path().join("backup/left");
    std::fs::create_dir_all(&left).unwrap();
    let identity = Arc::new(LocalIdentity::new(NodeId::generate(1), None));
    let backups = Backups::new(fixture.apply.clone(), with_leader(), identity, fixture.directory.path());
    let deadline = Instant::now() + Duration::from_secs(20);
    while left.exists() {
        assert!(Instant::now() < deadline, "not removed");
        tokio::task::yield_now().await;
    }
    let request = BackupRequest::default();
    assert!(
        matches!(backups.begin(request, &Administrator::assumed()).await, Err(BackupError::NotReady)),
        "there is no cluster"
    );
}

#[tokio::test]
async fn a_backup_of_a_node_without_a_leader_says_that_it_may_lack_the_newest_events() {
    let mut fixture = Fixture::new();
    fixture.append("s", 1..10).await;
    assert!(!fixture.backup("with.tar", None).await.1.may_lack_newest);
    let identity = Arc::new(LocalIdentity::new(NodeId::generate(1), Some(Uuid::from_u128(5).into_bytes())));
    let alone: CatchUp = Box::new(|| Box::pin(std::future::ready(false)));
    fixture.backups = Backups::new(fixture.apply.clone(), alone, identity, fixture.directory.path());
    let (_, manifest) = fixture.backup("without.tar", None).await;
    assert_eq!((manifest.may_lack_newest, manifest.next_position), (true, 9));
}

#[tokio::test]
async fn a_directory_that_lacks_the_files_of_its_base_restores_with_it() {
    let mut fixture = Fixture::new();
    fixture.append("s", 1..200).await;
    let (base, first) = fixture.backup("base.tar", None).await;
    fixture.append("s", 200..300).await;
    let (more, second) = fixture.backup("more.tar", Some(first)).await;
    // What `headwater backup --since backup.json --to DIRECTORY` writes.
    let directory = fixture.directory.path().join("more");
    std::fs::create_dir_all(directory.join("state")).unwrap();
    archive::read(std::fs::File::open(&more).unwrap(), |name, _, content| {
        archive::copy(content, &mut std::fs::File::create(directory.join("state").join(name))?).map(drop)
    })
    .unwrap();
    second.write(&directory).unwrap();
    let data_dir = fixture.directory.path().join("restored");
    let error = restore(&wanted(&[&directory], &data_dir)).unwrap_err().to_string();
    assert!(error.contains("name that one first"), "{error}");
    assert_eq!(restore(&wanted(&[&base, &directory], &data_dir)).unwrap().next_position, 299);
    let own = second.files.iter().find(|file| !file.in_base).unwrap();
    std::fs::remove_file(directory.join("state").join(&own.name)).unwrap();
    let elsewhere = fixture.directory.path().join("again");
    let error = restore(&wanted(&[&base, &directory], &elsewhere)).unwrap_err().to_string();
    assert!(error.contains(&own.name) && error.contains("No such file"), "{error}");
}

#[tokio::test]
async fn what_servers_of_a_list_are_restored_from_is_the_same_only_for_the_same_backup_and_end() {
    let mut fixture = Fixture::new();
    fixture.append("s", 1..200).await;
    let (base, first) = fixture.backup("base.tar", None).await;
    fixture.append("s", 200..300).await;
    let (more, _) = fixture.backup("more.tar", Some(first.clone())).await;
    let (again, _) = fixture.backup("again.tar", Some(first)).await;
    let mut restores = 0;
    let mut restored = |sources: &[&Path], server_id: u16, until| {
        restores += 1;
        let set = Some(ServerSet { members: "1=a/b,2=c/d".into(), founder: 1 });
        let data_dir = fixture.directory.path().join(format!("restored-{restores}"));
        let done = restore(&Restore { server_id, set, until, ..wanted(sources, &data_dir) }).unwrap();
        assert_eq!(done.cluster_id.is_some(), server_id == 1, "one server begins the cluster");
        let identity = Identity::open(&data_dir, server_id).unwrap();
        assert_eq!((identity.restored_for(), identity.is_restored()), (done.restored_for.clone(), server_id == 1));
        done.restored_for.unwrap()
    };
    let one = restored(&[&base, &more], 1, Until::End);
    assert_eq!((one.backup.len(), one.next_position, one.members.as_str()), (32, 299, "1=a/b,2=c/d"));
    assert_eq!(restored(&[&base, &more], 2, Until::End), one);
    for (sources, until) in
        [(&[&base, &again][..], Until::End), (&[&base][..], Until::End), (&[&base, &more][..], Until::Position(297))]
    {
        let sources: Vec<&Path> = sources.iter().map(|path| path.as_path()).collect();
        assert_ne!(restored(&sources, 2, until).backup, one.backup, "{sources:?}");
    }
}

#[tokio::test]
async fn what_was_removed_or_redacted_since_is_no_difference() {
    let mut fixture = Fixture::new();
    // The two streams take turns, so that what is removed lies scattered.
    for turn in 0..1_000_u128 {
        fixture.append("gone", 10 * turn + 1..10 * turn + 3).await;
        fixture.append("kept", 10 * turn + 3..10 * turn + 5).await;
    }
    let (archive, _) = fixture.backup("b.tar", None).await;
    let data_dir = fixture.directory.path().join("restored");
    restore(&wanted(&[&archive], &data_dir)).unwrap();
    fixture.describe("gone", 1 << 40, r#"{"$tb":1900}"#).await;
    fixture.scavenge(&["gone"], Ticks(0)).await;
    for number in [3, 700] {
        fixture.send(command::Kind::Redact(Redact { stream: "kept".to_owned(), number })).await;
    }
    let (now, _) = fixture.backup("now.tar", None).await;
    let changed = fixture.directory.path().join("changed");
    restore(&wanted(&[&now], &changed)).unwrap();
    let open = |data_dir: &Path| {
        let (_, database) = offline::current_database(&data_dir.join("state")).unwrap().unwrap();
        Copy::Local(OfflineState::open(&database).unwrap())
    };
    for (left, right) in [(&data_dir, &changed), (&changed, &data_dir)] {
        let compared = compare(&open(left), &open(right)).await.unwrap();
        assert_eq!((compared.end, compared.differing, compared.differing_ranges), (4_000, 0, 0), "{compared:?}");
        assert_eq!((compared.removed_since, compared.redacted_since), (1_900, 2));
    }
    // Two stores that have nothing in common.
    let mut other = Fixture::new();
    other.append("other", 1..3_000).await;
    let (archive, _) = other.backup("b.tar", None).await;
    let restored = other.directory.path().join("restored");
    restore(&wanted(&[&archive], &restored)).unwrap();
    let compared = compare(&open(&data_dir), &open(&restored)).await.unwrap();
    assert_eq!((compared.end, compared.differing, compared.named.len()), (2_999, 2_999, 100));
}

#[tokio::test]
async fn hashes_of_a_node_and_of_its_backup_are_the_same() {
    let mut fixture = Fixture::new();
    fixture.append("s", 1..200).await;
    let (archive, _) = fixture.backup("b.tar", None).await;
    let data_dir = fixture.directory.path().join("restored");
    restore(&wanted(&[&archive], &data_dir)).unwrap();
    fixture.append("s", 200..210).await;
    let (_, database) = offline::current_database(&data_dir.join("state")).unwrap().unwrap();
    let copy = OfflineState::open(&database).unwrap();
    for (from, to) in [(0, 199), (10, 20), (198, 199)] {
        let hash = fixture.backups.hash(from, to, &Administrator::assumed()).await.unwrap();
        let local = crate::backup::compare::hash_of(&copy, &(from..to)).unwrap();
        assert_eq!((&hash.hash, hash.to, hash.events, &hash.listed), (&local.hash, local.to, to - from, &local.listed));
        assert_eq!((hash.next_position, local.next_position), (209, 199));
    }
}
