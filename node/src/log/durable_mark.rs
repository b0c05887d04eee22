//! The file `durable-end`: how far this log's syncs were acknowledged, kept outside RocksDB.
//!
//! RocksDB silently takes the first unreadable record of its WAL for the end of it: it cannot know
//! whether the records after that were acknowledged. This file knows. It is written after each
//! sync, but synced only at intervals, because a sync each time would double the cost. It survives
//! the death of the process exactly; after a power loss it may be up to [`SYNC_INTERVAL`] behind,
//! but never ahead.
//!
//! Layout, 20 bytes: end u64 (index after the last durable entry), sequence u64 (RocksDB's number
//! of the last durable write, which covers votes as well), CRC-32C u32 of the 16 bytes before.
//! Little-endian.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::files;

/// The file on disk is no further behind than this, so that even damage caused by a power loss is
/// noticed.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Name in the log's directory.
pub(crate) const FILE_NAME: &str = "durable-end";
const LENGTH: usize = 20;

/// The part of the log that is known to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Durable {
    /// Index after the last durable entry.
    pub(crate) end: u64,
    /// RocksDB's sequence number of the last durable write. It never decreases, not even when
    /// entries are dropped.
    pub(crate) sequence: u64,
}

impl Durable {
    pub(super) fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&self.end.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (end, rest) = bytes.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let checksum = u32::from_le_bytes(rest.try_into().ok()?);
        (crc32c::crc32c(&bytes[..16]) == checksum)
            .then(|| Self { end: u64::from_le_bytes(*end), sequence: u64::from_le_bytes(*sequence) })
    }
}

/// The open file.
pub(super) struct DurableMark {
    file: File,
    path: PathBuf,
    /// Time of the oldest write that is not synced.
    changed: Option<Instant>,
}

impl DurableMark {
    /// The file's content; `None` when there is no file, an `InvalidData` error when it is damaged.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Durable>> {
        let bytes = match std::fs::read(directory.join(FILE_NAME)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "wrong length or checksum");
        Durable::decode(&bytes).map(Some).ok_or_else(damaged)
    }

    /// Opens the file, filled with zeros when missing. Content and name are durable on return.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE_NAME);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        if file.metadata()?.len() == 0 {
            file.write_all_at(&Durable::default().encode(), 0)?;
        }
        file.sync_all()?;
        files::sync_directory(directory)?;
        Ok(Self { file, path, changed: None })
    }

    /// Writes, and syncs if a sync is due.
    pub(super) fn record(&mut self, durable: Durable) -> io::Result<()> {
        self.file.write_all_at(&durable.encode(), 0)?;
        let changed = *self.changed.get_or_insert_with(Instant::now);
        if changed.elapsed() < SYNC_INTERVAL { Ok(()) } else { self.sync() }
    }

    /// Writes and syncs.
    pub(super) fn record_synced(&mut self, durable: Durable) -> io::Result<()> {
        self.file.write_all_at(&durable.encode(), 0)?;
        self.sync()
    }

    /// Syncs the written content.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.changed = None;
        Ok(())
    }

    /// How long a sync may wait; `None` when there is nothing to sync.
    pub(super) fn sync_is_due_in(&self) -> Option<Duration> {
        self.changed.map(|changed| SYNC_INTERVAL.saturating_sub(changed.elapsed()))
    }

    /// The path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_back_as_written() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(DurableMark::read(directory.path()).unwrap(), None);
        let mut mark = DurableMark::open(directory.path()).unwrap();
        assert_eq!(DurableMark::read(directory.path()).unwrap(), Some(Durable::default()));
        let durable = Durable { end: 1 << 40, sequence: 77 };
        mark.record(durable).unwrap();
        assert_eq!(DurableMark::read(directory.path()).unwrap(), Some(durable));
        drop(DurableMark::open(directory.path()).unwrap());
        assert_eq!(DurableMark::read(directory.path()).unwrap(), Some(durable), "opening must not reset it");
    }

    #[test]
    fn a_sync_is_due_while_a_write_is_not_synced() {
        let directory = tempfile::tempdir().unwrap();
        let mut mark = DurableMark::open(directory.path()).unwrap();
        assert_eq!(mark.sync_is_due_in(), None);
        mark.record(Durable { end: 1, sequence: 1 }).unwrap();
        let due = mark.sync_is_due_in().unwrap();
        mark.record(Durable { end: 2, sequence: 2 }).unwrap();
        assert!(mark.sync_is_due_in().is_none_or(|later| later <= due), "a later change must not put it off");
        mark.sync().unwrap();
        assert_eq!(mark.sync_is_due_in(), None);
        mark.changed = Instant::now().checked_sub(SYNC_INTERVAL);
        mark.record(Durable { end: 3, sequence: 3 }).unwrap();
        assert_eq!(mark.sync_is_due_in(), None, "the sync was due");
    }

    #[test]
    fn each_flipped_bit_is_noticed() {
        let bytes = Durable { end: 3, sequence: 9 }.encode();
        for bit in 0..LENGTH * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Durable::decode(&damaged), None, "bit {bit}");
        }
        assert_eq!(Durable::decode(&bytes[..LENGTH - 1]), None);
    }
}
