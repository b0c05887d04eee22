//! The store as a whole: cold reads, checkpoints, damage, crashes between the steps of an install.

mod measure;
mod space;

use std::fs;
use std::path::Path;

use bytes::Bytes;
use headwater_proto::stored::NewEvent;

use super::*;
use crate::event::Ticks;

/// Appends events with the given ids to a stream.
fn append(chunk: &mut write::Chunk<'_>, stream: &str, ids: std::ops::Range<u128>, bytes: usize) {
    let stream = chunk.stream(stream).unwrap();
    for id in ids {
        let event_id = uuid::Uuid::from_u128(scattered(id));
        let event = NewEvent {
            event_id: Bytes::copy_from_slice(event_id.as_bytes()),
            event_type: "type".into(),
            is_json: false,
            data: vec![b'x'; bytes].into(),
            metadata: Bytes::new(),
        };
        chunk.append(stream, Ticks(1), event_id, event).unwrap();
    }
}

/// What a node gives the blocks of table files when its configuration says nothing.
const CACHE_OF_A_NODE_BYTES: usize = 96 << 20;

/// Spreads ids as random ones are.
fn scattered(id: u128) -> u128 {
    uuid::Uuid::new_v5(&uuid::Uuid::nil(), &id.to_be_bytes()).as_u128()
}

fn fill(store: &mut StateWriter, stream: &str, events: u128) {
    let before = store.applied().current();
    let mut chunk = store.begin();
    let ids = u128::from(before.next_position)..u128::from(before.next_position) + events;
    append(&mut chunk, stream, ids, 100);
    chunk.commit(before.log_entries + 1, vec![before.log_entries as u8], Some(vec![9]));
}

fn open(path: &Path) -> StateWriter {
    StateWriter::open(path, 4 << 20).unwrap()
}

fn damage(result: Result<StateWriter, OpenError>) -> String {
    match result {
        Ok(_) => panic!("damaged state was opened"),
        Err(error) => error.to_string(),
    }
}

fn tables(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "sst")).collect()
}

#[tokio::test]
async fn a_cold_store_answers_in_full_from_the_blocking_pool() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    fill(&mut store, "s", 500);
    store.flush().unwrap();
    drop(store);
    let store = open(directory.path());
    let in_memory = {
        let generation = store.inner.current.load_full();
        let view = ReadView::new(&generation, Tier::Memory);
        [
            view.events(0, 0..=499).err(),
            view.event(0, 3).err(),
            view.stream("s").err(),
            view.log_forward(0, 10, usize::MAX).err(),
            // Not at the end: opening has looked at the last event.
            view.log_backward(100, 10, usize::MAX).err(),
        ]
    };
    for error in in_memory {
        assert!(matches!(error, Some(ReadError::NotInMemory)), "{error:?}");
    }
    let runs = Arc::new(AtomicU64::new(0));
    for expected_runs in [2, 3] {
        let counter = runs.clone();
        let read = store.read(move |view| {
            counter.fetch_add(1, Ordering::Relaxed);
            let info = view.stream("s")?;
            let id = info.id.unwrap();
            assert_eq!(info.last_number, Some(499));
            Ok((
                view.events(id, 0..=600)?,
                view.log_forward(0, 600, usize::MAX)?,
                view.log_backward(500, 600, usize::MAX)?,
            ))
        });
        let (events, forward, mut backward) = read.await.unwrap();
        backward.reverse();
        assert_eq!(events.len(), 500);
        assert!(events == forward && forward == backward);
        // The second time everything is in memory.
        assert_eq!(runs.load(Ordering::Relaxed), expected_runs);
    }
}

#[tokio::test]
async fn install_moves_readers_waiters_and_the_writer() {
    let directory = tempfile::tempdir().unwrap();
    let mut source = open(&directory.path().join("source"));
    fill(&mut source, "s", 10);
    fill(&mut source, "s", 10);
    let checkpoint = directory.path().join("checkpoint");
    source.checkpoint(&checkpoint).unwrap();
    assert_eq!(source.unflushed_bytes(), 0);
    let mark = Store::checkpoint_mark(&checkpoint).unwrap();
    assert_eq!(mark, AppliedMark { last_applied: Some(vec![1]), membership: Some(vec![9]) });

    let path = directory.path().join("target");
    let mut target = open(&path);
    fill(&mut target, "other", 3);
    let old_reader = target.inner.current.load_full();
    let mut change = target.applied().watch_stream("other");
    let waiting = Store::clone(&target);
    let waiter = tokio::spawn(async move { waiting.applied().wait_for_position(19).await });
    target.install(&checkpoint).unwrap();
    waiter.await.unwrap();
    change.changed().await;
    assert_eq!(target.applied().current(), Applied { log_entries: 2, next_position: 20 });
    assert_eq!(target.last_applied().unwrap(), mark);
    // A read that began before keeps its database, and the old files go only afterwards.
    assert_eq!(ReadView::new(&old_reader, Tier::Disk).stream("other").unwrap().last_number, Some(2));
    assert!(path.join("1").exists());
    drop(old_reader);
    assert!(path.join("2").exists());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while path.join("1").exists() {
        assert!(std::time::Instant::now() < deadline, "the replaced state was not removed");
        std::thread::yield_now();
    }
    fill(&mut target, "s", 1);
    assert_eq!(target.view(|view| view.stream("s").unwrap().last_number), Some(20));
    assert_eq!(target.view(|view| view.stream("other").unwrap().id), None);
    drop(target);
    assert_eq!(open(&path).applied().current(), Applied { log_entries: 3, next_position: 21 });
    // The checkpoint stays the same, even after writes to the installed state.
    assert_eq!(Store::checkpoint_mark(&checkpoint).unwrap(), mark);
}

#[test]
fn remains_of_a_crashed_install_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    fill(&mut store, "s", 3);
    drop(store);
    fs::create_dir(directory.path().join("2")).unwrap();
    fs::write(directory.path().join("2/000009.sst"), b"half").unwrap();
    fs::write(directory.path().join("CURRENT-GENERATION.tmp"), b"2").unwrap();
    let store = open(directory.path());
    assert_eq!(store.applied().current().next_position, 3);
    assert!(!directory.path().join("2").exists());
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_state_stays() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&directory.path().join("state"));
    fill(&mut store, "s", 3);
    let checkpoint = directory.path().join("checkpoint");
    store.checkpoint(&checkpoint).unwrap();
    fs::remove_file(&tables(&checkpoint)[0]).unwrap();
    assert!(store.install(&checkpoint).is_err());
    fill(&mut store, "s", 1);
    assert_eq!(store.view(|view| view.stream("s").unwrap().last_number), Some(3));
    assert!(!directory.path().join("state/2").exists());
}

#[test]
fn missing_pieces_are_named_at_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    drop({
        let mut store = open(path);
        fill(&mut store, "s", 3);
        store
    });
    let pointer = fs::read(path.join("CURRENT-GENERATION")).unwrap();
    fs::remove_file(path.join("CURRENT-GENERATION")).unwrap();
    let text = damage(StateWriter::open(path, 1 << 20));
    assert!(text.contains("CURRENT-GENERATION") && text.contains("--rejoin"), "{text}");
    fs::write(path.join("CURRENT-GENERATION"), b"x").unwrap();
    assert!(damage(StateWriter::open(path, 1 << 20)).contains("CURRENT-GENERATION"));
    fs::write(path.join("CURRENT-GENERATION"), pointer).unwrap();
    let table = tables(&path.join("1")).remove(0);
    fs::remove_file(&table).unwrap();
    let text = damage(StateWriter::open(path, 1 << 20));
    assert!(text.contains(table.file_name().unwrap().to_str().unwrap()), "{text}");
}

#[test]
fn a_flipped_byte_is_damage_that_names_the_file_and_never_a_missing_event() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    fill(&mut store, "s", 2000);
    store.flush().unwrap();
    let generation = store.inner.current.load_full();
    let largest = tables(&directory.path().join("1")).into_iter().max_by_key(|path| path.metadata().unwrap().len());
    let path = largest.unwrap();
    // The blocks written by a flush are not in the cache yet, so the next read meets this.
    let mut bytes = fs::read(&path).unwrap();
    bytes[64] ^= 1;
    fs::write(&path, bytes).unwrap();
    let view = ReadView::new(&generation, Tier::Disk);
    let name = path.file_name().unwrap().to_str().unwrap();
    for error in [view.events(0, 0..=5).err(), view.event(0, 0).err(), view.log_forward(0, 5, usize::MAX).err()] {
        match error {
            Some(ReadError::Damaged(text)) => assert!(text.contains(name), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn another_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    fill(&mut store, "s", 1);
    {
        let generation = store.inner.current.load_full();
        let family = generation.family(options::SYSTEM);
        generation
            .db()
            .put_cf_opt(family, system_row::FORMAT, (system_row::FORMAT_VERSION + 1).to_be_bytes(), &options::write())
            .unwrap();
    }
    drop(store);
    assert!(damage(StateWriter::open(directory.path(), 1 << 20)).contains("another version"));
}

#[test]
fn the_filter_of_a_large_table_of_ids_stays_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    // An unpartitioned filter of this many ids is larger than a shard of this cache.
    let store = StateWriter::open(directory.path(), 1 << 20).unwrap();
    let generation = store.inner.current.load_full();
    let family = generation.family(options::EVENT_ID);
    let key = |id: u128| event_id_row::key(1, uuid::Uuid::from_u128(scattered(id)));
    let mut batch = rocksdb::WriteBatch::default();
    (0..200_000).for_each(|id| batch.put_cf(family, key(id), event_id_row::value(0)));
    generation.db().write_opt(batch, &options::write()).unwrap();
    store.flush().unwrap();
    store.settle();
    let absent = key(u128::MAX);
    let found = |tier| {
        let mut read = rocksdb::ReadOptions::default();
        read.set_read_tier(tier);
        generation.db().get_pinned_cf_opt(family, absent, &read).map(|row| row.is_some())
    };
    assert_eq!(found(rocksdb::ReadTier::All), Ok(false));
    assert_eq!(found(rocksdb::ReadTier::BlockCache), Ok(false));
}

/// The number under which the stream knows an id given by [`append`].
fn number_of(store: &mut StateWriter, stream: &str, id: u128) -> Option<u64> {
    let mut chunk = store.begin();
    let stream = chunk.stream(stream).unwrap();
    chunk.number_of_id(stream, uuid::Uuid::from_u128(scattered(id))).unwrap()
}

fn stored_ids(store: &Store, ids: std::ops::Range<u128>) -> usize {
    let generation = store.inner.current.load_full();
    let family = generation.family(options::EVENT_ID);
    let is_stored = |id: &u128| {
        let key = event_id_row::key(0, uuid::Uuid::from_u128(scattered(*id)));
        generation.db().get_pinned_cf(family, key).unwrap().is_some()
    };
    ids.filter(is_stored).count()
}

#[test]
fn every_id_is_known_in_memory_in_the_database_and_after_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let (mut total, batches) = (0, 5);
    for _ in 0..batches {
        fill(&mut store, "s", recent_ids::RECENT_IDS as u128 / 2 + 10);
        total += recent_ids::RECENT_IDS as u128 / 2 + 10;
    }
    let stored = stored_ids(&store, 0..total);
    assert!(stored > 0 && stored < total as usize, "{stored} of {total}: ids are found in both places");
    let all_are_known = |store: &mut StateWriter| (0..total).all(|id| number_of(store, "s", id) == Some(id as u64));
    assert!(all_are_known(&mut store));
    store.flush().unwrap();
    drop(store);

    let mut store = open(directory.path());
    assert_eq!(stored_ids(&store, 0..total), stored);
    assert!(all_are_known(&mut store));
    assert_eq!(number_of(&mut store, "s", total), None);
    let checkpoint = directory.path().join("checkpoint");
    store.checkpoint(&checkpoint).unwrap();
    let mut target = open(&directory.path().join("target"));
    target.install(&checkpoint).unwrap();
    assert!(all_are_known(&mut target), "a snapshot brings them too");
}

#[test]
fn the_filter_of_ids_is_filled_when_a_database_is_opened_and_misses_none_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let step = recent_ids::RECENT_IDS as u128 + 10;
    let mut known = 0;
    let fill_more = |store: &mut StateWriter, known: &mut u128| {
        fill(store, "s", step);
        *known += step;
    };
    fill_more(&mut store, &mut known);
    assert!(store.memory().id_filter.is_complete(), "an empty database has no ids");
    store.flush().unwrap();
    drop(store);

    let check = |store: &mut StateWriter, known: u128| {
        assert!((0..known).all(|id| number_of(store, "s", id) == Some(id as u64)));
        assert!((known..known + step).all(|id| number_of(store, "s", id).is_none()));
        let writer = store.memory();
        let of = |id: u128| (0, uuid::Uuid::from_u128(scattered(id)));
        (known..known + step).filter(|id| writer.id_filter.may_hold(&of(*id))).count()
    };
    let mut store = open(directory.path());
    // These are added while the filter is being filled, or right after that.
    fill_more(&mut store, &mut known);
    check(&mut store, known);
    store.memory().id_filter.settle();
    assert!(store.memory().id_filter.is_complete());
    assert!(check(&mut store, known) < 10, "the database is hardly asked any more");

    let checkpoint = directory.path().join("checkpoint");
    store.checkpoint(&checkpoint).unwrap();
    let mut target = open(&directory.path().join("target"));
    target.install(&checkpoint).unwrap();
    check(&mut target, known);
    fill_more(&mut target, &mut known);
    target.memory().id_filter.settle();
    assert!(check(&mut target, known) < 10, "a snapshot brings its ids");
}

#[tokio::test]
async fn a_read_waits_for_its_place_before_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let all_places = store.inner.cold_reads.clone().acquire_many_owned(COLD_READS as u32).await.unwrap();
    let read = store.read_apart(|view| view.next_position());
    tokio::pin!(read);
    assert!(futures::poll!(&mut read).is_pending());
    drop(all_places);
    assert_eq!(read.await.unwrap(), 0);
    assert_eq!(store.inner.cold_reads.available_permits(), COLD_READS, "places are given back");
}

#[test]
fn a_start_reads_few_events_again_even_if_all_have_the_same_id() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let again = |store: &mut StateWriter, times: u64| {
        let before = store.applied().current();
        let mut chunk = store.begin();
        (0..times).for_each(|_| append(&mut chunk, "s", 0..1, 10));
        chunk.commit(before.log_entries + 1, vec![1], None);
    };
    let ids_before = |store: &StateWriter| store.inner.current.load_full().ids_before().unwrap();
    again(&mut store, recent_ids::RECENT_EVENTS - 1);
    assert_eq!(ids_before(&store), Some(0));
    again(&mut store, 1);
    assert_eq!(ids_before(&store), Some(recent_ids::RECENT_EVENTS));
    again(&mut store, 1);
    assert_eq!((ids_before(&store), number_of(&mut store, "s", 0)), (Some(recent_ids::RECENT_EVENTS), Some(0)));
    store.flush().unwrap();
    drop(store);
    let mut store = open(directory.path());
    assert_eq!(number_of(&mut store, "s", 0), Some(0));
}

#[test]
fn the_first_use_of_an_id_counts_after_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let commit = |store: &mut StateWriter, ids: std::ops::Range<u128>| {
        let before = store.applied().current();
        let mut chunk = store.begin();
        append(&mut chunk, "s", ids, 10);
        chunk.commit(before.log_entries + 1, vec![1], None);
    };
    let many = recent_ids::RECENT_IDS as u128;
    commit(&mut store, 0..many);
    assert_eq!(stored_ids(&store, 0..many), many as usize);
    // Two used ids are used again: one that is in the database and one that is not.
    commit(&mut store, 5..6);
    commit(&mut store, many..many + 1);
    commit(&mut store, many..many + 1);
    let mut chunk = store.begin();
    let gone = chunk.stream("gone").unwrap();
    chunk.append_tombstone(gone, Ticks(1), uuid::Uuid::from_u128(7));
    chunk.commit(9, vec![1], None);
    store.flush().unwrap();
    drop(store);
    let mut store = open(directory.path());
    assert_eq!(number_of(&mut store, "s", 5), Some(5));
    assert_eq!(number_of(&mut store, "s", many), Some(many as u64 + 1));
}

#[test]
fn databases_of_the_formats_before_are_opened_and_go_on() {
    for format in system_row::OLDEST_FORMAT_VERSION..system_row::FORMAT_VERSION {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path());
        fill(&mut store, "s", 50);
        as_of_format(&store, format, 50);
        store.flush().unwrap();
        drop(store);
        for round in 1..=2 {
            let mut store = open(directory.path());
            let known = 50 * round;
            assert!((0..known).all(|id| number_of(&mut store, "s", id) == Some(id as u64)), "round {round}");
            fill(&mut store, "s", 50);
            assert!((0..known + 50).all(|id| number_of(&mut store, "s", id) == Some(id as u64)), "round {round}");
            let generation = store.inner.current.load_full();
            let now = generation.db().get_cf(generation.family(options::SYSTEM), system_row::FORMAT).unwrap();
            assert_eq!(now.unwrap(), system_row::FORMAT_VERSION.to_be_bytes(), "an older program refuses it");
            // Pages with old rows are there, and look the events up.
            for (numbers, has_headings) in [(0..=9, format >= 3), (45..=54, format >= 3), (50..=59, true)] {
                store.view(|view| {
                    let (places, headings) = view.places_and_headings(0, numbers.clone()).unwrap();
                    assert_eq!(places, view.places(0, numbers.clone()).unwrap());
                    assert_eq!((places.len(), headings.is_some()), (10, has_headings), "{numbers:?}");
                    assert_eq!(view.events(0, numbers.clone()).unwrap().len(), 10);
                });
            }
            store.flush().unwrap();
        }
    }
}

#[test]
fn a_refused_database_of_an_older_format_stays_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    fill(&mut store, "s", 5);
    as_of_format(&store, 2, 5);
    {
        let generation = store.inner.current.load_full();
        let family = generation.family(options::EVENT);
        generation.db().delete_cf_opt(family, event_row::key(4), &options::write()).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    assert!(damage(StateWriter::open(directory.path(), 1 << 20)).contains("position 4 is missing"));
    let path = generation::directory(directory.path(), 1);
    let options = rocksdb::Options::default();
    let db = rocksdb::DB::open_cf_for_read_only(&options, path, [options::SYSTEM], false).unwrap();
    let format = db.get_cf(db.cf_handle(options::SYSTEM).unwrap(), system_row::FORMAT).unwrap();
    assert_eq!(format.unwrap(), 2u32.to_be_bytes());
}

/// Turns a database with this many events in stream 0 into one of an earlier format.
fn as_of_format(store: &Store, format: u32, events: u64) {
    let generation = store.inner.current.load_full();
    let mut batch = rocksdb::WriteBatch::default();
    for number in (0..events).filter(|_| format < 3) {
        let key = index_row::key(0, number);
        let row = generation.db().get_cf(generation.family(options::INDEX), key).unwrap().unwrap();
        // Without time and type, and once without the size of the event.
        let length = if number % 2 == 0 && format == 1 { 8 } else { 12 };
        batch.put_cf(generation.family(options::INDEX), key, &row[..length]);
        if format == 1 {
            // All ids in their family, without a record of it.
            let key = event_id_row::key(0, uuid::Uuid::from_u128(scattered(number.into())));
            batch.put_cf(generation.family(options::EVENT_ID), key, event_id_row::value(number));
        }
    }
    let system = generation.family(options::SYSTEM);
    if format == 1 {
        batch.delete_cf(system, system_row::IDS_BEFORE);
    }
    batch.put_cf(system, system_row::FORMAT, format.to_be_bytes());
    generation.db().write_opt(batch, &options::write()).unwrap();
}

#[test]
fn the_index_has_time_and_type_of_every_event_of_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let mut chunk = store.begin();
    let stream = chunk.stream("s").unwrap();
    for number in 0..30u64 {
        let event_id = uuid::Uuid::from_u128(number.into());
        let event = NewEvent {
            event_id: Bytes::copy_from_slice(event_id.as_bytes()),
            event_type: "é".repeat(number as usize % 5),
            data: vec![b'x'; 10].into(),
            ..NewEvent::default()
        };
        chunk.append(stream, Ticks(1000 + number), event_id, event).unwrap();
    }
    chunk.commit(1, vec![1], None);
    store.view(|view| {
        for numbers in [0..=29, 5..=5, 7..=19, 20..=99] {
            let (_, headings) = view.places_and_headings(0, numbers.clone()).unwrap();
            let headings = headings.unwrap();
            let told: Vec<_> = headings.events("s").collect();
            let events = view.events(0, numbers).unwrap();
            assert_eq!(told.len(), events.len());
            for (told, event) in told.iter().zip(&events) {
                assert_eq!(
                    (told.stream, told.number, told.position, told.time, told.event_type),
                    (event.stream.as_str(), event.number, event.position, event.time, event.event_type.as_str())
                );
            }
        }
        assert!(view.places_and_headings(0, 30..=40).unwrap().0.is_empty());
    });
}

#[test]
fn a_changed_stream_is_not_remembered_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    fill(&mut store, "s", 1);
    let read = |store: &Store| {
        let (place, known) = store.known_stream("s");
        let info = known.unwrap_or_else(|| Arc::new(store.view(|view| view.stream("s").unwrap())));
        (place, info)
    };
    let (place, info) = read(&store);
    store.remember_stream(place, "s", &info);
    assert_eq!(store.known_stream("s").1.map(|info| info.last_number), Some(Some(0)));
    let (stale, info) = read(&store);
    fill(&mut store, "s", 1);
    assert_eq!(store.known_stream("s").1, None, "the commit removed it");
    store.remember_stream(stale, "s", &info);
    assert_eq!(store.known_stream("s").1, None, "what was read before the commit is not kept");
    fill(&mut store, "other", 1);
    let (place, info) = read(&store);
    store.remember_stream(place, "s", &info);
    assert_eq!(store.known_stream("s").1.map(|info| info.last_number), Some(Some(1)));
    let checkpoint = directory.path().join("checkpoint");
    store.checkpoint(&checkpoint).unwrap();
    store.install(&checkpoint).unwrap();
    assert_eq!(store.known_stream("s").1, None, "the whole state was replaced");
}

#[test]
fn a_page_that_was_read_stays_in_memory_when_readers_leave() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = StateWriter::open(directory.path(), CACHE_OF_A_NODE_BYTES).unwrap();
    let generation = store.inner.current.load_full();
    let page = |tier: Tier| {
        let view = ReadView::new(&generation, tier);
        let info = view.stream("s")?;
        view.events(info.id.unwrap_or(0), 0..=19)
    };
    // A reader is open while files are written, so they keep what its view might need.
    let early = ReadView::new(&generation, Tier::Memory);
    for _ in 0..3 {
        fill(&mut store, "s", 100);
        store.flush().unwrap();
    }
    store.settle();
    assert_eq!(page(Tier::Disk).unwrap().len(), 20);
    drop(early);
    for _ in 0..100 {
        assert!(page(Tier::Memory).is_ok_and(|events| events.len() == 20));
        store.settle();
    }
}
