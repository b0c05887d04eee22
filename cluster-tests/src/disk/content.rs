//! The bytes of one file: what a sync has made durable, in a file of its own, and the changes since
//! then, in memory and in order.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rand::RngExt;
use rand::rngs::StdRng;

/// A disk writes so many bytes as a whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;

/// What a power cut took of one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LostChanges {
    /// Writes and changes of the length that were lost, at least in part.
    pub(super) changes: usize,
    /// Bytes of these writes.
    pub(super) bytes: u64,
    /// Whether one of them was kept in part.
    pub(super) torn: bool,
}

#[derive(Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Resize(u64),
}

impl Change {
    fn bytes(&self) -> u64 {
        match self {
            Self::Write { bytes, .. } => bytes.len() as u64,
            Self::Resize(_) => 0,
        }
    }
}

/// One file.
#[derive(Debug)]
pub(super) struct Content {
    durable: File,
    durable_length: u64,
    length: u64,
    /// Changes since the last sync, each with its number.
    unsynced: VecDeque<(u64, Change)>,
    next_number: u64,
}

impl Content {
    /// An empty file, whose durable bytes are kept at `path`.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let durable = File::options().read(true).write(true).create_new(true).open(path)?;
        Ok(Self { durable, durable_length: 0, length: 0, unsynced: VecDeque::new(), next_number: 0 })
    }

    /// Bytes as readers see it.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads as much as there is of the range.
    pub(super) fn read(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX).min(size);
        let mut buffer = vec![0; size];
        let durable = usize::try_from(self.durable_length.saturating_sub(offset)).unwrap_or(usize::MAX).min(size);
        self.durable.read_exact_at(&mut buffer[..durable], offset)?;
        for (_, change) in &self.unsynced {
            match change {
                Change::Write { offset: at, bytes } => overlay(&mut buffer, offset, *at, bytes),
                Change::Resize(length) => {
                    let from = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX).min(size);
                    buffer[from..].fill(0);
                }
            }
        }
        Ok(buffer)
    }

    /// Writes; visible at once, durable with a later sync.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.length = self.length.max(offset + bytes.len() as u64);
        self.add(Change::Write { offset, bytes: bytes.to_vec() });
    }

    /// Cuts the file, or extends it by zeros.
    pub(super) fn resize(&mut self, length: u64) {
        if length != self.length {
            self.length = length;
            self.add(Change::Resize(length));
        }
    }

    fn add(&mut self, change: Change) {
        self.unsynced.push_back((self.next_number, change));
        self.next_number += 1;
    }

    /// What a sync that begins now has to make durable: pass it to [`Self::sync`].
    pub(super) fn written(&self) -> u64 {
        self.next_number
    }

    /// Makes everything up to that durable.
    pub(super) fn sync(&mut self, written: u64) -> io::Result<()> {
        while let Some((_, change)) = self.unsynced.pop_front_if(|(number, _)| *number < written) {
            self.apply(&change)?;
        }
        Ok(())
    }

    /// What Linux does when the disk refuses to write pages: it reports that once, takes the pages
    /// for clean, and may forget them. The next sync has nothing to do.
    pub(super) fn fail_sync(&mut self) {
        self.unsynced.clear();
        if self.length != self.durable_length {
            // The length is known still, in memory.
            self.add(Change::Resize(self.length));
        }
    }

    fn apply(&mut self, change: &Change) -> io::Result<()> {
        match change {
            Change::Write { offset, bytes } => self.apply_bytes(*offset, bytes),
            Change::Resize(length) => {
                self.durable.set_len(*length)?;
                self.durable_length = *length;
                Ok(())
            }
        }
    }

    fn apply_bytes(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.durable.write_all_at(bytes, offset)?;
        self.durable_length = self.durable_length.max(offset + bytes.len() as u64);
        Ok(())
    }

    /// The power is cut. Without `random` only what was synced is left. Otherwise a prefix of the
    /// later changes is, the last of them torn between two sectors; and of what would follow,
    /// perhaps some sectors that the file had already, in no order.
    pub(super) fn lose(&mut self, random: Option<&mut StdRng>) -> io::Result<LostChanges> {
        let mut changes: Vec<Change> =
            std::mem::take(&mut self.unsynced).into_iter().map(|(_, change)| change).collect();
        let mut lost = LostChanges::default();
        if let Some(random) = random
            && !changes.is_empty()
        {
            let kept = random.random_range(0..=changes.len());
            for change in changes.drain(..kept) {
                self.apply(&change)?;
            }
            if let Some(first) = changes.first() {
                lost.torn |= self.tear(first, random)?;
            }
            if random.random_bool(0.5) {
                lost.torn |= self.scatter(&changes, random)?;
            }
        }
        lost.changes = changes.len();
        lost.bytes = changes.iter().map(Change::bytes).sum();
        self.length = self.durable_length;
        Ok(lost)
    }

    /// Keeps some sectors from the beginning of a write; whether any.
    fn tear(&mut self, change: &Change, random: &mut StdRng) -> io::Result<bool> {
        let Change::Write { offset, bytes } = change else { return Ok(false) };
        let end = offset + bytes.len() as u64;
        let boundaries = (offset / SECTOR_BYTES + 1)..end.div_ceil(SECTOR_BYTES);
        if boundaries.is_empty() || random.random_bool(0.3) {
            return Ok(false);
        }
        let kept = random.random_range(boundaries) * SECTOR_BYTES - offset;
        // Less than the length of the write, which is in memory.
        self.apply_bytes(*offset, &bytes[..kept as usize])?;
        Ok(true)
    }

    /// Keeps single sectors of writes, where the file had these sectors already: for them nothing
    /// has to be recorded by the file system, so nothing orders them. Whether any.
    fn scatter(&mut self, changes: &[Change], random: &mut StdRng) -> io::Result<bool> {
        let mut any = false;
        for change in changes {
            let Change::Write { offset, bytes } = change else { break };
            let end = (offset + bytes.len() as u64).min(self.durable_length);
            let mut at = *offset;
            while at < end {
                let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if random.random_bool(0.5) {
                    let (from, to) = ((at - offset) as usize, (next - offset) as usize);
                    self.apply_bytes(at, &bytes[from..to])?;
                    any = true;
                }
                at = next;
            }
        }
        Ok(any)
    }
}

/// Copies the part of `bytes`, which begin at `at`, that lies in `buffer`, which begins at
/// `offset`.
fn overlay(buffer: &mut [u8], offset: u64, at: u64, bytes: &[u8]) {
    let start = offset.max(at);
    let end = (offset + buffer.len() as u64).min(at + bytes.len() as u64);
    if start < end {
        let target = (start - offset) as usize..(end - offset) as usize;
        let source = (start - at) as usize..(end - at) as usize;
        buffer[target].copy_from_slice(&bytes[source]);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn file() -> (tempfile::TempDir, Content) {
        let directory = tempfile::tempdir().unwrap();
        let content = Content::create(&directory.path().join("1")).unwrap();
        (directory, content)
    }

    fn all(content: &Content) -> Vec<u8> {
        content.read(0, 1 << 20).unwrap()
    }

    #[test]
    fn readers_see_what_was_written_and_a_power_cut_leaves_what_was_synced() {
        let (_directory, mut content) = file();
        content.write(0, b"abcdef");
        content.sync(content.written()).unwrap();
        content.write(4, b"EFGH");
        content.write(1, b"B");
        assert_eq!(all(&content), b"aBcdEFGH");
        assert_eq!(content.read(3, 3).unwrap(), b"dEF");
        let lost = content.lose(None).unwrap();
        assert_eq!(lost, LostChanges { changes: 2, bytes: 5, torn: false });
        assert_eq!((all(&content).as_slice(), content.length()), (&b"abcdef"[..], 6));
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let (_directory, mut content) = file();
        content.write(0, b"before");
        let written = content.written();
        content.write(6, b"during");
        content.sync(written).unwrap();
        assert_eq!(all(&content), b"beforeduring");
        content.lose(None).unwrap();
        assert_eq!(all(&content), b"before");
    }

    #[test]
    fn a_length_is_durable_with_a_sync() {
        let (_directory, mut content) = file();
        content.write(0, b"abcdef");
        content.sync(content.written()).unwrap();
        content.resize(2);
        content.resize(4);
        content.write(5, b"F");
        assert_eq!(all(&content), b"ab\0\0\0F");
        content.lose(None).unwrap();
        assert_eq!(all(&content), b"abcdef");
        content.resize(2);
        content.resize(4);
        content.sync(content.written()).unwrap();
        content.lose(None).unwrap();
        assert_eq!(all(&content), b"ab\0\0");
    }

    #[test]
    fn after_a_failed_sync_the_bytes_are_gone_for_good() {
        let (_directory, mut content) = file();
        content.write(0, b"old");
        content.sync(content.written()).unwrap();
        content.write(0, b"newer");
        content.fail_sync();
        assert_eq!(all(&content), b"old\0\0");
        content.sync(content.written()).unwrap();
        content.lose(None).unwrap();
        assert_eq!(all(&content), b"old\0\0");
    }

    #[test]
    fn every_prefix_is_left_by_some_seed_and_tears_are_between_sectors() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let (_directory, mut content) = file();
            content.write(0, &[1; 100]);
            content.write(100, &[2; 1500]);
            content.write(1600, &[3; 10]);
            let lost = content.lose(Some(&mut StdRng::seed_from_u64(seed))).unwrap();
            let left = all(&content);
            assert_eq!(lost.torn, ![0, 100, 1600, 1610].contains(&left.len()), "seed {seed}: {}", left.len());
            let expected: Vec<u8> = [vec![1; 100], vec![2; 1500], vec![3; 10]].concat();
            assert_eq!(left, expected[..left.len()], "seed {seed}");
            lengths.insert(left.len());
        }
        assert_eq!(Vec::from_iter(lengths), [0, 100, 512, 1024, 1536, 1600, 1610]);
    }

    #[test]
    fn sectors_that_the_file_had_may_be_left_in_any_order_and_are_never_torn() {
        let mut only_the_last = false;
        for seed in 0..200 {
            let (_directory, mut content) = file();
            content.write(0, &[1; 2048]);
            content.sync(content.written()).unwrap();
            content.write(0, &[2; 2048]);
            content.write(2048, &[2; 100]);
            content.lose(Some(&mut StdRng::seed_from_u64(seed))).unwrap();
            let left = all(&content);
            for sector in left.chunks(SECTOR_BYTES as usize) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}");
            }
            only_the_last |= left.len() == 2048 && left[1535] == 1 && left[1536] == 2;
        }
        assert!(only_the_last);
    }

    #[test]
    fn the_same_seed_leaves_the_same() {
        let left = |seed| {
            let (_directory, mut content) = file();
            (0u8..50).for_each(|round| content.write(u64::from(round) * 700, &[round; 900]));
            content.lose(Some(&mut StdRng::seed_from_u64(seed))).unwrap();
            all(&content)
        };
        assert_eq!(left(7), left(7));
        assert!((0..10).any(|seed| left(seed) != left(7)));
    }
}
