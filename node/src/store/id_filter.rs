//! Which event ids are surely not in the database.
//!
//! Nearly every event that is appended has an id of its own, and RocksDB says so only after it has
//! looked into the filter of each of several tables: more work than all the rest of applying the
//! event, and the more tables there are the more (docs/adr/0014-filter-of-event-ids.md). This
//! filter over all of them answers in memory, with one line of the processor's cache. It may say
//! "perhaps" of an id that is new, then the database is asked; it never says "new" of one that is
//! not.
//!
//! When a database is opened a thread of its own fills the filter from family `event_id`; until it
//! is done, the database is asked.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use hashbrown::DefaultHashBuilder;
use rocksdb::ReadOptions;
use uuid::Uuid;

use super::generation::Generation;
use super::options::EVENT_ID;
use super::system_row::Counters;
use super::{ReadError, event_id_row};

/// Memory of the filter, whatever the number of ids. At 13 million of them about one new id in a
/// hundred is looked up, at 50 million about every second.
pub const ID_FILTER_BYTES: usize = 16 << 20;

/// Ids with which a filter of this size still spares about half of the look-ups. A database with
/// more is not read for it.
const MOST_IDS: u64 = 50_000_000;

/// Ids that are added while the filter is being filled; with more it is given up until the next
/// start.
pub const MAX_ADDED_MEANWHILE: usize = 2 << 20;

/// Bits that stand for one id.
const BITS_PER_ID: u32 = 6;

/// Rows after which the filling thread looks whether it is still wanted.
const STEP: usize = 4_096;

/// An id in a stream.
pub(super) type Id = (u64, Uuid);

/// See the module. Of the writer alone.
pub(super) struct IdFilter {
    hasher: DefaultHashBuilder,
    state: State,
}

enum State {
    /// Knows every id in the database.
    Complete(Bits),
    /// Is being filled from what was in the database before.
    Filling { filling: Filling, hashes_added_meanwhile: Vec<u64> },
    /// Says nothing: there are too many ids for it, or it could not be filled.
    Unused,
}

impl IdFilter {
    /// Of a database that was just opened and that nobody has written to since.
    pub(super) fn open(generation: &Arc<Generation>, counters: &Counters) -> Self {
        let hasher = DefaultHashBuilder::default();
        let state = match counters.next_position {
            0 => State::Complete(Bits::new(ID_FILTER_BYTES)),
            events if events > MOST_IDS => State::unused("there are too many for it"),
            _ => match Filling::start(generation.clone(), hasher.clone()) {
                Ok(filling) => State::Filling { filling, hashes_added_meanwhile: Vec::new() },
                Err(error) => State::unused(&format!("there is no thread to fill it: {error}")),
            },
        };
        Self { hasher, state }
    }

    /// Whether the database may hold this id.
    pub(super) fn may_hold(&mut self, id: &Id) -> bool {
        self.take_over();
        match &self.state {
            State::Complete(bits) => bits.may_hold(self.hasher.hash_one(id)),
            State::Filling { .. } | State::Unused => true,
        }
    }

    /// Notes an id that is going to be in the database; before it is there.
    pub(super) fn add(&mut self, id: &Id) {
        self.take_over();
        match &mut self.state {
            State::Complete(bits) => bits.add(self.hasher.hash_one(id)),
            State::Filling { hashes_added_meanwhile: hashes, .. } if hashes.len() == MAX_ADDED_MEANWHILE => {
                self.state = State::unused("too many were added while it was being filled");
            }
            State::Filling { hashes_added_meanwhile: hashes, .. } => hashes.push(self.hasher.hash_one(id)),
            State::Unused => {}
        }
    }

    /// Goes on with what the filling thread brought, if it has ended.
    fn take_over(&mut self) {
        let State::Filling { filling, hashes_added_meanwhile } = &mut self.state else { return };
        match filling.progress() {
            Progress::Running => {}
            Progress::Filled(mut bits) => {
                hashes_added_meanwhile.iter().for_each(|hash| bits.add(*hash));
                self.state = State::Complete(bits);
            }
            Progress::Failed => self.state = State::unused("the thread that fills it has ended"),
        }
    }

    /// Waits until it has been filled.
    #[cfg(test)]
    pub(super) fn settle(&mut self) {
        while matches!(self.state, State::Filling { .. }) {
            self.take_over();
            std::thread::yield_now();
        }
    }

    #[cfg(test)]
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete(_))
    }
}

impl State {
    fn unused(reason: &str) -> Self {
        tracing::info!("no filter of event ids, each new one is looked up in the database: {reason}");
        Self::Unused
    }
}

/// The thread that fills a filter; it ends with this value.
struct Filling {
    is_unwanted: Arc<AtomicBool>,
    filled: mpsc::Receiver<Bits>,
    thread: Option<JoinHandle<()>>,
}

impl Filling {
    fn start(generation: Arc<Generation>, hasher: DefaultHashBuilder) -> std::io::Result<Self> {
        let is_unwanted = Arc::new(AtomicBool::new(false));
        let (sender, filled) = mpsc::channel();
        let cancel = is_unwanted.clone();
        let fill = move || {
            let started = Instant::now();
            let mut bits = Bits::new(ID_FILTER_BYTES);
            match fill(&generation, &hasher, &mut bits, &cancel) {
                Ok(Some(ids)) => {
                    tracing::info!(ids, elapsed = ?started.elapsed(), "the filter of event ids is complete");
                    // Nobody waits for it when the store is closed at this moment.
                    let _ = sender.send(bits);
                }
                Ok(None) => {}
                // Others would meet the same damage and mistake a repeated event for a new one.
                Err(error) => crate::fatal::stop("reading the state database", &error),
            }
        };
        let thread = std::thread::Builder::new().name("id-filter".into()).spawn(fill)?;
        Ok(Self { is_unwanted, filled, thread: Some(thread) })
    }

    fn progress(&mut self) -> Progress {
        match self.filled.try_recv() {
            Ok(bits) => Progress::Filled(bits),
            Err(mpsc::TryRecvError::Empty) => Progress::Running,
            Err(mpsc::TryRecvError::Disconnected) => Progress::Failed,
        }
    }
}

/// How far the filling thread has come.
enum Progress {
    Running,
    /// With all ids that were in the database when it began, and perhaps some of those added since.
    Filled(Bits),
    /// It ended without a result.
    Failed,
}

impl Drop for Filling {
    fn drop(&mut self) {
        // The database must be closed when the store is. The thread looks here every few thousand
        // rows, so nobody waits long for it.
        self.is_unwanted.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Adds every id of the database and counts them; `None` when it was not wanted any more.
fn fill(
    generation: &Generation,
    hasher: &DefaultHashBuilder,
    bits: &mut Bits,
    is_unwanted: &AtomicBool,
) -> Result<Option<usize>, ReadError> {
    let mut once = ReadOptions::default();
    // The block cache stays with those who will read again; the disk is read in large steps.
    once.fill_cache(false);
    once.set_readahead_size(1 << 20);
    let mut rows = generation.db().raw_iterator_cf_opt(generation.family(EVENT_ID), once);
    rows.seek_to_first();
    let mut ids = 0;
    while let Some(key) = rows.key() {
        if ids % STEP == 0 && is_unwanted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        bits.add(hasher.hash_one(event_id_row::id(key)?));
        ids += 1;
        rows.next();
    }
    rows.status().map_err(ReadError::from_rocksdb)?;
    Ok(Some(ids))
}

/// A Bloom filter in which all bits of an id lie in one block.
struct Bits {
    blocks: Vec<Block>,
}

/// One line of the processor's cache.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Block([u64; 8]);

impl Bits {
    fn new(bytes: usize) -> Self {
        Self { blocks: vec![Block::default(); (bytes / size_of::<Block>()).max(1)] }
    }

    fn add(&mut self, hash: u64) {
        let (block, mask) = self.place(hash);
        for (word, mask) in self.blocks[block].0.iter_mut().zip(mask) {
            *word |= mask;
        }
    }

    fn may_hold(&self, hash: u64) -> bool {
        let (block, mask) = self.place(hash);
        self.blocks[block].0.iter().zip(mask).all(|(word, mask)| word & mask == mask)
    }

    /// The block by the upper half of the hash, the bits in it by what the lower half is spread to.
    fn place(&self, hash: u64) -> (usize, [u64; 8]) {
        const BITS_OF_BLOCK: u32 = size_of::<Block>() as u32 * 8;
        const CHOICE: u32 = BITS_OF_BLOCK.ilog2();
        // The golden ratio: it carries each bit into all higher ones.
        let mut spread = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut mask = [0; 8];
        for _ in 0..BITS_PER_ID {
            let bit = spread >> (u64::BITS - CHOICE);
            mask[(bit / 64) as usize] |= 1 << (bit % 64);
            spread <<= CHOICE;
        }
        let block = ((hash >> 32) * self.blocks.len() as u64) >> 32;
        (block as usize, mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> Id {
        // Ids that are counted, the worst case for a hash.
        (n % 7, Uuid::from_u64_pair(0, n))
    }

    #[test]
    fn added_ids_are_found_and_few_others() {
        let hasher = DefaultHashBuilder::default();
        let hash = |n: u64| hasher.hash_one(id(n));
        let mut bits = Bits::new(256 << 10);
        // Ten bits for each id.
        let ids = (256 << 10) * 8 / 10;
        (0..ids).for_each(|n| bits.add(hash(n)));
        assert!((0..ids).all(|n| bits.may_hold(hash(n))));
        let wrong = (ids..2 * ids).filter(|n| bits.may_hold(hash(*n))).count() as u64;
        assert!(wrong < ids / 60, "{wrong} of {ids}");
        let mut smallest = Bits::new(0);
        assert!(!smallest.may_hold(1));
        smallest.add(1);
        assert!(smallest.may_hold(1));
    }

    /// A filter that somebody else fills.
    fn filling() -> (IdFilter, mpsc::Sender<Bits>) {
        let (sender, filled) = mpsc::channel();
        let filling = Filling { is_unwanted: Arc::new(AtomicBool::new(false)), filled, thread: None };
        let state = State::Filling { filling, hashes_added_meanwhile: Vec::new() };
        (IdFilter { hasher: DefaultHashBuilder::default(), state }, sender)
    }

    #[test]
    fn ids_that_are_added_while_it_is_filled_are_known_afterwards() {
        let (mut filter, sender) = filling();
        filter.add(&id(1));
        assert!(filter.may_hold(&id(2)), "nothing is known yet");
        let mut bits = Bits::new(64 << 10);
        bits.add(filter.hasher.hash_one(id(2)));
        sender.send(bits).unwrap();
        filter.add(&id(3));
        assert!(filter.is_complete(), "adding takes over, too");
        assert!((1..=3).all(|n| filter.may_hold(&id(n))));
        assert!(!filter.may_hold(&id(4)));
    }

    #[test]
    fn a_filter_that_cannot_be_filled_says_nothing() {
        let (mut filter, sender) = filling();
        drop(sender);
        filter.add(&id(1));
        assert!(matches!(filter.state, State::Unused));
        let (mut filter, _sender) = filling();
        (0..=MAX_ADDED_MEANWHILE as u64).for_each(|n| filter.add(&id(n)));
        assert!(matches!(filter.state, State::Unused), "its memory is bounded");
        assert!(filter.may_hold(&id(u64::MAX)));
    }

    #[test]
    fn the_limits_hold_exactly() {
        // A new id is looked up if all its bits are set, which in blocks are a little more than
        // evenly spread ones.
        let share = |ids: f64| {
            let bits = (ID_FILTER_BYTES * 8) as f64;
            (1.0 - (-f64::from(BITS_PER_ID) * ids / bits).exp()).powi(BITS_PER_ID as i32)
        };
        assert!(share(13e6) < 0.01, "{}", share(13e6));
        assert!((0.4..0.6).contains(&share(MOST_IDS as f64)), "{}", share(MOST_IDS as f64));
    }
}
