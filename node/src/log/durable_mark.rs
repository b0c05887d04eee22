//! The file `durable-end`: how far this log's syncs were acknowledged, kept outside RocksDB.
//!
//! RocksDB cuts a torn tail off its WAL without a word, and cannot know whether anybody was told that this tail was safe.
//! This file does. It is written after each sync but is itself not synced (that would double the price of a sync):
//! it survives the death of the process exactly, and after a power loss it may be older than the truth, never newer.
//!
//! Layout, 20 bytes: end u64 (index after the last durable entry), sequence u64 (RocksDB's number of the last durable write,
//! which covers votes as well), CRC-32C u32 of the 16 bytes before. Little-endian.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Name in the log's directory.
pub const FILE_NAME: &str = "durable-end";
const LENGTH: usize = 20;

/// What is known to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Durable {
    /// Index after the last durable entry.
    pub end: u64,
    /// RocksDB's sequence number of the last durable write. It never goes back, not even when entries are dropped.
    pub sequence: u64,
}

impl Durable {
    fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&self.end.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (end, rest) = bytes.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let checksum = u32::from_le_bytes(rest.try_into().ok()?);
        (crc32c::crc32c(&bytes[..16]) == checksum)
            .then(|| Self { end: u64::from_le_bytes(*end), sequence: u64::from_le_bytes(*sequence) })
    }
}

/// The open file.
pub struct DurableMark {
    file: File,
    path: PathBuf,
}

impl DurableMark {
    /// The file's content; `None` when there is no file, an `InvalidData` error when it is damaged.
    pub fn read(directory: &Path) -> io::Result<Option<Durable>> {
        let bytes = match std::fs::read(directory.join(FILE_NAME)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "wrong length or checksum");
        Durable::decode(&bytes).map(Some).ok_or_else(damaged)
    }

    /// Opens the file, made with all zero when missing; durable on return, also its name.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE_NAME);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        if file.metadata()?.len() == 0 {
            file.write_all_at(&Durable::default().encode(), 0)?;
        }
        file.sync_all()?;
        File::open(directory)?.sync_all()?;
        Ok(Self { file, path })
    }

    /// Writes without a sync.
    pub fn record(&self, durable: Durable) -> io::Result<()> {
        self.file.write_all_at(&durable.encode(), 0)
    }

    /// Writes with a sync.
    pub fn record_synced(&self, durable: Durable) -> io::Result<()> {
        self.record(durable)?;
        self.file.sync_data()
    }

    /// For messages.
    pub fn path(&self) -> &Path {
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
        let mark = DurableMark::open(directory.path()).unwrap();
        assert_eq!(DurableMark::read(directory.path()).unwrap(), Some(Durable::default()));
        let durable = Durable { end: 1 << 40, sequence: 77 };
        mark.record(durable).unwrap();
        assert_eq!(DurableMark::read(directory.path()).unwrap(), Some(durable));
        drop(DurableMark::open(directory.path()).unwrap());
        assert_eq!(DurableMark::read(directory.path()).unwrap(), Some(durable), "opening must not reset it");
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
