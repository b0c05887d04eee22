//! Which event ids are surely not in the database.
//!
//! Nearly every event that is appended has an id of its own, and RocksDB says so only after it has looked into the filter of each of
//! several tables: more work than all the rest of applying the event, and the more tables there are the more (docs/adr/0014-filter-of-event-ids.md).
//! This filter over all of them answers in memory, with one line of the processor's cache. It may say "perhaps" of an id that is new, then the database is
//! asked; it never says "new" of one that is not.
//!
//! When a database is opened a thread of its own fills the filter from family `event_id`; until it is done, the database is asked.

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
use crate::priority;

/// Memory of the filter, whatever the number of ids. At 13 million of them one new id in a hundred is looked up, at 50 million about every second.
pub const ID_FILTER_BYTES: usize = 16 << 20;

/// Ids with which a filter of this size still spares about half of the look-ups. A database with more is not read for it.
const MOST_IDS: u64 = 50_000_000;

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
    /// Is being filled; meanwhile the hashes of ids that were added are collected here.
    Filling(Filling, Vec<u64>),
    /// There are too many ids for it, or no thread to fill it.
    Useless,
}

impl IdFilter {
    /// Of a database that was just opened and that nobody has written to since.
    pub(super) fn open(generation: &Arc<Generation>, counters: &Counters) -> Self {
        Self::with_size(generation, counters, ID_FILTER_BYTES)
    }

    fn with_size(generation: &Arc<Generation>, counters: &Counters, bytes: usize) -> Self {
        let hasher = DefaultHashBuilder::default();
        let state = match counters.next_position {
            0 => State::Complete(Bits::new(bytes)),
            events if events > MOST_IDS => State::Useless,
            _ => match Filling::start(generation.clone(), hasher.clone(), Bits::new(bytes)) {
                Ok(filling) => State::Filling(filling, Vec::new()),
                Err(error) => {
                    tracing::warn!(%error, "no thread for the filter of event ids: each new id is looked up in the database");
                    State::Useless
                }
            },
        };
        Self { hasher, state }
    }

    /// Whether the database may hold this id.
    pub(super) fn may_hold(&mut self, id: &Id) -> bool {
        if let State::Filling(filling, since) = &mut self.state
            && let Some(filled) = filling.result()
        {
            self.state = match filled {
                Some(mut bits) => {
                    since.iter().for_each(|hash| bits.add(*hash));
                    State::Complete(bits)
                }
                None => State::Useless,
            };
        }
        match &self.state {
            State::Complete(bits) => bits.may_hold(self.hasher.hash_one(id)),
            State::Filling(..) | State::Useless => true,
        }
    }

    /// Notes an id that is going to be in the database.
    pub(super) fn add(&mut self, id: &Id) {
        match &mut self.state {
            State::Complete(bits) => bits.add(self.hasher.hash_one(id)),
            State::Filling(_, since) => since.push(self.hasher.hash_one(id)),
            State::Useless => {}
        }
    }

    /// Waits until it has been filled.
    #[cfg(test)]
    pub(super) fn settle(&mut self) {
        while matches!(self.state, State::Filling(..)) {
            self.may_hold(&(0, Uuid::nil()));
            std::thread::yield_now();
        }
    }

    #[cfg(test)]
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete(_))
    }
}

/// The thread that fills a filter; it ends with this value.
struct Filling {
    is_unwanted: Arc<AtomicBool>,
    filled: mpsc::Receiver<Bits>,
    thread: Option<JoinHandle<()>>,
}

impl Filling {
    fn start(generation: Arc<Generation>, hasher: DefaultHashBuilder, mut bits: Bits) -> std::io::Result<Self> {
        let is_unwanted = Arc::new(AtomicBool::new(false));
        let (sender, filled) = mpsc::channel();
        let cancel = is_unwanted.clone();
        let fill = move || {
            priority::run_last();
            let started = Instant::now();
            match fill(&generation, &hasher, &mut bits, &cancel) {
                Ok(Some(ids)) => {
                    tracing::debug!(ids, elapsed = ?started.elapsed(), "the filter of event ids is complete");
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

    /// The filter, once the thread has ended; `Some(None)` if it brought none.
    fn result(&mut self) -> Option<Option<Bits>> {
        match self.filled.try_recv() {
            Ok(bits) => Some(Some(bits)),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => Some(None),
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // The database must be closed when the store is.
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

    fn hash(n: u64) -> u64 {
        // Of one program only: the test is about the bits, not about the hash.
        u64::from_be_bytes(Uuid::new_v5(&Uuid::nil(), &n.to_be_bytes()).as_bytes()[..8].try_into().unwrap())
    }

    #[test]
    fn what_was_added_is_found_and_little_else() {
        let mut bits = Bits::new(64 << 10);
        let ids = (64 << 10) * 8 / 10;
        (0..ids).for_each(|n| bits.add(hash(n)));
        assert!((0..ids).all(|n| bits.may_hold(hash(n))));
        let wrong = (ids..2 * ids).filter(|n| bits.may_hold(hash(*n))).count() as u64;
        // Ten bits for each id.
        assert!(wrong < ids / 50, "{wrong} of {ids}");
        let mut smallest = Bits::new(0);
        assert!(!smallest.may_hold(1));
        smallest.add(1);
        assert!(smallest.may_hold(1));
    }

    #[test]
    fn the_limits_are_what_they_say() {
        // A new id is looked up if all its bits are set; so many are when a filter of the stated size holds so many ids.
        let share = |ids: f64| {
            let bits = (ID_FILTER_BYTES * 8) as f64;
            (1.0 - (-f64::from(BITS_PER_ID) * ids / bits).exp()).powi(BITS_PER_ID as i32)
        };
        assert!(share(13e6) < 0.01, "{}", share(13e6));
        assert!((0.4..0.6).contains(&share(MOST_IDS as f64)), "{}", share(MOST_IDS as f64));
    }
}
