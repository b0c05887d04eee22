//! The files in which RocksDB keeps records: the MANIFEST, and write-ahead logs. Each record has a
//! checksum. RocksDB reads them when it opens a database, and takes the first wrong record of a
//! write-ahead log for its end; this reads all of them.
//!
//! A file is a sequence of blocks of 32 KiB. A record lies in one block, or in several as first,
//! middle and last part, and each part has a header: CRC-32C (4 bytes, masked) of what follows the
//! length, length (2), kind (1), and in files that may be used again the number of the file (4).
//! Little-endian.

use std::fs;
use std::io;
use std::path::Path;

/// Parts do not reach over the end of a block.
const BLOCK_BYTES: usize = 32 << 10;

/// Length of the header without the number of the file.
const HEADER_BYTES: usize = 7;

/// The same with it.
const NUMBERED_HEADER_BYTES: usize = HEADER_BYTES + 4;

/// Kinds of parts that have the number of their file.
const NUMBERED_KINDS: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// Space that was reserved and never written to.
const NO_KIND: u8 = 0;

/// What RocksDB adds to a rotated CRC, so that a CRC of data that holds CRCs is no trivial one.
const CRC_MASK: u32 = 0xa282_ead8;

/// The name of a file of records: that of the present MANIFEST.
const CURRENT: &str = "CURRENT";

/// Reads the MANIFEST that `CURRENT` names.
///
/// # Errors
/// What is damaged or missing.
pub(crate) fn check_manifest(directory: &Path) -> Result<(), String> {
    let current = directory.join(CURRENT);
    let text = fs::read(&current).map_err(|error| format!("{} cannot be read: {error}", current.display()))?;
    let name =
        manifest_named(&text).ok_or_else(|| format!("{} is damaged: it names no MANIFEST", current.display()))?;
    let path = directory.join(name);
    if !path.exists() {
        return Err(format!("{} is damaged, or {} is missing, which it names", current.display(), path.display()));
    }
    let bytes = fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    match first_wrong(&bytes, None) {
        None if bytes.is_empty() => Err(format!("{} is empty", path.display())),
        None => Ok(()),
        Some(at) => Err(wrong_at(&path, at)),
    }
}

/// Reads every write-ahead log of a directory. What lies behind the last record of a file that was
/// used before is no part of it. A record that is cut off at the end of a file is none either, but
/// one that a later record follows is damaged.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn damaged_wals(directory: &Path) -> io::Result<Vec<String>> {
    let mut damages = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        let Some(number) = number.filter(|_| path.extension().is_some_and(|extension| extension == "log")) else {
            continue;
        };
        match fs::read(&path) {
            // Only the lower half of a number is in the header.
            Ok(bytes) => damages.extend(first_wrong(&bytes, Some(number as u32)).map(|at| wrong_at(&path, at))),
            Err(error) => damages.push(format!("{} cannot be read: {error}", path.display())),
        }
    }
    damages.sort();
    Ok(damages)
}

fn wrong_at(path: &Path, at: usize) -> String {
    format!("{} is damaged: the record at byte {at} has a wrong checksum or length", path.display())
}

pub(crate) fn manifest_named(current: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(current).ok()?.strip_suffix('\n')?;
    let number = name.strip_prefix("MANIFEST-")?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

/// A part of a record at one place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It has its checksum; its length with the header.
    Sound(usize),
    /// The block has no room for a header any more.
    Padding,
    /// Nothing was written here, or it belongs to an earlier use of the file.
    Foreign,
    /// It reaches over the end of the file.
    CutOff,
    /// Anything else.
    Wrong,
}

/// The part at `at`, in a file whose number is `number` if its parts have it.
fn part_at(bytes: &[u8], at: usize, number: Option<u32>) -> Part {
    let left_in_block = BLOCK_BYTES - at % BLOCK_BYTES;
    let is_blank = || bytes.get(at..at + left_in_block).is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
    if left_in_block < HEADER_BYTES || (number.is_some() && left_in_block < NUMBERED_HEADER_BYTES && is_blank()) {
        return Part::Padding;
    }
    let Some(header) = bytes.get(at..at + HEADER_BYTES) else { return Part::CutOff };
    let (length, kind) = (usize::from(u16::from_le_bytes([header[4], header[5]])), header[6]);
    if kind == NO_KIND && length == 0 {
        return Part::Foreign;
    }
    let is_numbered = NUMBERED_KINDS.contains(&kind);
    let header_bytes = if is_numbered { NUMBERED_HEADER_BYTES } else { HEADER_BYTES };
    if header_bytes + length > left_in_block {
        return Part::Wrong;
    }
    let Some(part) = bytes.get(at..at + header_bytes + length) else { return Part::CutOff };
    if is_numbered && number.is_some_and(|number| part[HEADER_BYTES..HEADER_BYTES + 4] != number.to_le_bytes()) {
        return Part::Foreign;
    }
    let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let computed = crc32c::crc32c(&part[HEADER_BYTES - 1..]);
    let masked = computed.rotate_right(15).wrapping_add(CRC_MASK);
    if stored == masked { Part::Sound(header_bytes + length) } else { Part::Wrong }
}

/// Where the first wrong record of a file begins that belongs to it: in one that is used once, any
/// that is not cut off by the end of the file; in one that may be used again, one that another
/// record follows.
pub(crate) fn first_wrong(bytes: &[u8], number: Option<u32>) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        match part_at(bytes, at, number) {
            Part::Sound(length) => at += length,
            Part::Padding => at = next_block(at),
            Part::Foreign if number.is_none() => at = next_block(at),
            Part::CutOff if number.is_none() => return None,
            Part::Wrong if number.is_none() => return Some(at),
            Part::Foreign | Part::CutOff | Part::Wrong => {
                return number.filter(|of| is_followed(bytes, at, *of)).map(|_| at);
            }
        }
    }
    None
}

fn next_block(at: usize) -> usize {
    (at / BLOCK_BYTES + 1) * BLOCK_BYTES
}

/// Whether a sound record of the file `number` begins behind `at`: anywhere in the same block, or
/// where a block begins.
fn is_followed(bytes: &[u8], at: usize, number: u32) -> bool {
    let block_end = next_block(at).min(bytes.len());
    let is_of_file = |at: &usize| {
        let kind = bytes.get(at + HEADER_BYTES - 1);
        let is_numbered = kind.is_some_and(|kind| NUMBERED_KINDS.contains(kind));
        is_numbered && matches!(part_at(bytes, *at, Some(number)), Part::Sound(_))
    };
    let mut later = (at + 1..block_end).chain((next_block(at)..bytes.len()).step_by(BLOCK_BYTES));
    later.any(|at| is_of_file(&at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(kind: u8, number: Option<u32>, payload: &[u8]) -> Vec<u8> {
        let mut summed = vec![kind];
        summed.extend(number.iter().flat_map(|number| number.to_le_bytes()));
        summed.extend(payload);
        let crc = crc32c::crc32c(&summed).rotate_right(15).wrapping_add(CRC_MASK);
        let mut part = crc.to_le_bytes().to_vec();
        part.extend((payload.len() as u16).to_le_bytes());
        part.extend(summed);
        part
    }

    /// A file of records of one part each, so many that they reach into a third block.
    fn records(kind: u8, number: Option<u32>) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < 70_000 {
            let part = part(kind, number, &[7; 1_000]);
            let left = BLOCK_BYTES - bytes.len() % BLOCK_BYTES;
            if left < part.len() {
                let fill = left.checked_sub(HEADER_BYTES + number.map_or(0, |_| 4));
                match fill {
                    Some(fill) => bytes.extend(self::part(kind, number, &vec![8; fill])),
                    None => bytes.extend(vec![0; left]),
                }
            } else {
                bytes.extend(part);
            }
        }
        bytes
    }

    #[test]
    fn a_block_without_room_for_a_header_with_a_number_is_padded() {
        for left in 1..NUMBERED_HEADER_BYTES {
            let fill = BLOCK_BYTES - NUMBERED_HEADER_BYTES - left;
            let mut bytes = part(5, Some(9), &vec![7; fill]);
            bytes.extend(vec![0; left]);
            bytes.extend(part(5, Some(9), b"next"));
            assert_eq!(first_wrong(&bytes, Some(9)), None, "{left} bytes left");
            // What is damaged there is no padding, where there is room for any header.
            bytes[BLOCK_BYTES - left] = 1;
            assert_eq!(first_wrong(&bytes, Some(9)).is_some(), left >= HEADER_BYTES, "{left} bytes left");
        }
    }

    #[test]
    fn each_flipped_byte_of_a_manifest_is_found() {
        let whole = records(1, None);
        assert_eq!(first_wrong(&whole, None), None);
        // In the last one a wrong length looks as if the record had been being written.
        for at in (0..whole.len() - 1_100).step_by(41) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            let found = first_wrong(&flipped, None);
            assert!(found.is_some_and(|found| found <= at), "byte {at}: {found:?}");
        }
        assert_eq!(first_wrong(&whole[..whole.len() - 5], None), None, "the last record was being written");
        let mut last = whole.clone();
        *last.last_mut().unwrap() ^= 1;
        assert!(first_wrong(&last, None).is_some());
    }

    #[test]
    fn each_flipped_byte_of_a_wal_that_others_follow_is_found() {
        let mut whole = records(5, Some(9));
        let end = whole.len();
        // What an earlier use of the file has left behind.
        whole.extend(records(5, Some(4)).split_off(end % BLOCK_BYTES));
        assert_eq!(first_wrong(&whole, Some(9)), None);
        assert_eq!(first_wrong(&records(5, Some(4)), Some(9)), None, "nothing was written since");
        for at in (0..end - 1_100).step_by(37) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            let found = first_wrong(&flipped, Some(9));
            assert!(found.is_some_and(|found| found <= at), "byte {at}: {found:?}");
        }
        let mut last = whole.clone();
        last[end - 5] ^= 1;
        assert_eq!(first_wrong(&last, Some(9)), None, "the end tells whether it was acknowledged");
    }

    #[test]
    fn current_names_a_manifest() {
        let directory = tempfile::tempdir().unwrap();
        let check = || check_manifest(directory.path());
        assert!(check().unwrap_err().contains("CURRENT cannot be read"));
        for wrong in ["", "MANIFEST-000004", "MANIFEST-00x\n", "../MANIFEST-1\n"] {
            fs::write(directory.path().join(CURRENT), wrong).unwrap();
            assert!(check().unwrap_err().contains("names no MANIFEST"), "{wrong:?}");
        }
        fs::write(directory.path().join(CURRENT), "MANIFEST-000004\n").unwrap();
        assert!(check().unwrap_err().contains("MANIFEST-000004 is missing"));
        fs::write(directory.path().join("MANIFEST-000004"), records(1, None)).unwrap();
        check().unwrap();
    }
}
