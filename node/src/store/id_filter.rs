//! A filter for event ids that are certainly not in the database.
//!
//! Nearly every appended event has a new id, and RocksDB finds that out only after looking into the
//! filters of several tables. That costs more than the rest of applying the event, and grows with
//! the number of tables (docs/adr/0014-filter-of-event-ids.md). This filter over all tables answers
//! from memory, with one line of the processor's cache. Without it, one node at 64 connections
//! takes 0.90 of the appends at 1.22 times the processor time (docs/performance.md). It may answer
//! "perhaps" for a new id; then the database is asked. It never answers "new" for a known id.
//!
//! When a database is opened, a separate thread fills the filter from family `event_id`. Until it
//! has finished, the database is asked.

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

/// Memory of the filter, whatever the number of ids. At 13 million ids one new id in a hundred is
/// looked up in vain, at 50 million every second one (both approximate).
pub(crate) const ID_FILTER_BYTES: usize = 16 << 20;

/// Number of ids up to which a filter of this size still saves half of the look-ups. A database
/// with more ids is not read for it.
const MAX_IDS: u64 = 50_000_000;

/// Ids that may be added while the filter is being filled. With more, the filter is given up until
/// the next start.
pub(crate) const MAX_ADDED_MEANWHILE: usize = 2 << 20;

/// Bits set for one id.
const BITS_PER_ID: u32 = 6;

/// Rows between two checks whether the result is still wanted.
const STEP: usize = 4_096;

/// An id in a stream.
pub(super) type Id = (u64, Uuid);

/// See the module. Owned by the writer.
pub(super) struct IdFilter {
    hasher: DefaultHashBuilder,
    state: State,
}

enum State {
    /// Knows every id in the database.
    Complete(Bits),
    /// Is being filled with the ids that were in the database before.
    Filling { filling: Filling, hashes_added_meanwhile: Vec<u64> },
    /// Answers nothing: there are too many ids, or filling failed.
    Unused,
}

impl IdFilter {
    /// For a database that was just opened and not written to since.
    pub(super) fn open(generation: &Arc<Generation>, counters: &Counters) -> Self {
        let hasher = DefaultHashBuilder::default();
        let state = match counters.next_position {
            0 => State::Complete(Bits::new(ID_FILTER_BYTES)),
            events if events > MAX_IDS => State::unused("the database holds too many ids"),
            _ => match Filling::start(generation.clone(), hasher.clone()) {
                Ok(filling) => State::Filling { filling, hashes_added_meanwhile: Vec::new() },
                Err(error) => State::unused(&format!("its thread cannot be started: {error}")),
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

    /// Adds an id that is about to be written; call it before the write.
    pub(super) fn add(&mut self, id: &Id) {
        self.take_over();
        match &mut self.state {
            State::Complete(bits) => bits.add(self.hasher.hash_one(id)),
            State::Filling { hashes_added_meanwhile: hashes, .. } if hashes.len() == MAX_ADDED_MEANWHILE => {
                self.state = State::unused("too many ids were added while it was being filled");
            }
            State::Filling { hashes_added_meanwhile: hashes, .. } => hashes.push(self.hasher.hash_one(id)),
            State::Unused => {}
        }
    }

    /// Takes over the result of the filling thread, if it has ended.
    fn take_over(&mut self) {
        let State::Filling { filling, hashes_added_meanwhile } = &mut self.state else { return };
        match filling.progress() {
            Progress::Running => {}
            Progress::Filled(mut bits) => {
                hashes_added_meanwhile.iter().for_each(|hash| bits.add(*hash));
                self.state = State::Complete(bits);
            }
            Progress::Failed => self.state = State::unused("the thread that fills it has failed"),
        }
    }

    /// Waits until the filter is filled.
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
                    // There is no receiver if the store is closed at this moment.
                    let _ = sender.send(bits);
                }
                Ok(None) => {}
                // Other readers would meet the same damage and take a repeated event for a new one.
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
    /// With all ids that were in the database at the beginning, and perhaps some of those added
    /// since.
    Filled(Bits),
    /// The thread ended without a result.
    Failed,
}

impl Drop for Filling {
    fn drop(&mut self) {
        // The database must be closed together with the store. The thread checks this every few
        // thousand rows, so the wait is short.
        self.is_unwanted.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Adds every id of the database and counts them; `None` when the result is no longer wanted.
fn fill(
    generation: &Generation,
    hasher: &DefaultHashBuilder,
    bits: &mut Bits,
    is_unwanted: &AtomicBool,
) -> Result<Option<usize>, ReadError> {
    let mut once = ReadOptions::default();
    // The block cache is left to ordinary reads; the disk is read in large steps.
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

    /// The block comes from the upper half of the hash, the bits in it from the spread lower half.
    fn place(&self, hash: u64) -> (usize, [u64; 8]) {
        const BITS_OF_BLOCK: u32 = size_of::<Block>() as u32 * 8;
        const CHOICE: u32 = BITS_OF_BLOCK.ilog2();
        // The golden ratio carries each bit into all higher ones.
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
        // Consecutive ids, the worst case for a hash.
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

    /// A filter that the test fills.
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
        // A new id is looked up if all its bits are set. In blocks this is slightly more likely
        // than with evenly spread bits.
        let share = |ids: f64| {
            let bits = (ID_FILTER_BYTES * 8) as f64;
            (1.0 - (-f64::from(BITS_PER_ID) * ids / bits).exp()).powi(BITS_PER_ID as i32)
        };
        assert!(share(13e6) < 0.01, "{}", share(13e6));
        assert!((0.4..0.6).contains(&share(MAX_IDS as f64)), "{}", share(MAX_IDS as f64));
    }
}
