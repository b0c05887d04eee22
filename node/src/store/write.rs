//! One chunk of applied commands: an overlay for reading its own writes, and one atomic write batch.

use std::marker::PhantomData;

/// The writes of some consecutive log entries, invisible to readers until committed.
/// Made by [`super::Store::begin`], by the apply thread alone.
pub struct Chunk<'store> {
    marker: PhantomData<&'store ()>,
}

impl Chunk<'_> {
    /// Puts the log position of the last entry (and the membership, when the chunk changed it), both encoded by the caller,
    /// into the same batch, writes it and publishes it to readers and waiters. A failed write ends the process.
    pub fn commit(self, log_entries: u64, last_applied: Vec<u8>, membership: Option<Vec<u8>>) {
        let _ = (log_entries, last_applied, membership, self.marker);
        unimplemented!()
    }
}
