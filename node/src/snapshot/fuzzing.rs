//! A snapshot as it arrives from another node, fed with arbitrary bytes (docs/correctness.md,
//! "Fuzzing").

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream;
use headwater_proto::raft::{SnapshotChunk, SnapshotPart, snapshot_part::Part};
use headwater_proto::stored::SnapshotManifest;
use prost::Message;

use super::directory::SnapshotDir;
use super::{SnapshotStore, receive_files, receive_header};
use crate::metrics::Metrics;

/// Most bytes that the files of an input may have: more can come of no input of a reasonable size.
const MAX_BYTES: u64 = 1 << 20;

/// The parts of a transfer, each behind its length, received into a directory. With an odd first
/// byte the checksums are made right, so that more than these is tried.
pub(crate) fn transfer(input: &[u8], scratch: &Path) -> Option<()> {
    let (&has_checksums, mut rest) = input.split_first()?;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let mut part = SnapshotPart::decode_length_delimited(&mut rest).ok()?;
        if let (1, Some(Part::Chunk(chunk))) = (has_checksums % 2, &mut part.part) {
            chunk.crc32c = crc32c::crc32c(&chunk.data);
        }
        parts.push(part);
    }
    if has_checksums % 2 == 1 {
        sum_files(&mut parts);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
    runtime.block_on(received(parts, scratch))
}

/// Puts into the manifest what the chunks of each file make of its checksum.
fn sum_files(parts: &mut [SnapshotPart]) {
    let chunks: Vec<SnapshotChunk> = parts
        .iter()
        .filter_map(|part| match &part.part {
            Some(Part::Chunk(chunk)) => Some(chunk.clone()),
            Some(Part::Header(_)) | None => None,
        })
        .collect();
    for part in parts {
        let Some(Part::Header(header)) = &mut part.part else { continue };
        let files = header.manifest.iter_mut().flat_map(|manifest| &mut manifest.files);
        for (number, file) in files.enumerate() {
            let own = chunks.iter().filter(|chunk| chunk.file as usize == number);
            file.crc32c = own.fold(0, |crc, chunk| crc32c::crc32c_append(crc, &chunk.data));
        }
    }
}

async fn received(parts: Vec<SnapshotPart>, scratch: &Path) -> Option<()> {
    let sent = parts.clone();
    let mut arriving = stream::iter(parts.into_iter().map(Ok::<_, String>));
    let (_, manifest) = receive_header(&mut arriving).await.ok()?;
    if manifest.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.bytes)) > MAX_BYTES {
        return None;
    }
    // Of its own for each input: what an earlier one left is removed by a thread.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let data = scratch.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    let snapshots = SnapshotStore::open(&data, Metrics::new()).ok()?;
    let received = receive_files(&snapshots, manifest.clone(), &mut arriving).await;
    assert_eq!(names(&data), ["incoming", "snapshots"], "something was written elsewhere");
    let is_received = received.map(|received| is_complete(received.path(), &manifest, &sent)).is_ok();
    let _ = fs::remove_dir_all(&data);
    is_received.then_some(())
}

/// All that was listed is there with the bytes that were sent, and nothing else; and it can be
/// opened at the next start.
fn is_complete(directory: &Path, manifest: &SnapshotManifest, sent: &[SnapshotPart]) {
    let opened = SnapshotDir::open(directory).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(opened.manifest(), manifest);
    let mut expected: Vec<String> = manifest.files.iter().map(|file| file.name.clone()).collect();
    expected.push(super::directory::MANIFEST.to_owned());
    expected.sort();
    assert_eq!(names(directory), expected);
    for (number, file) in manifest.files.iter().enumerate() {
        let content = fs::read(directory.join(&file.name)).unwrap_or_default();
        let chunks = sent.iter().filter_map(|part| match &part.part {
            Some(Part::Chunk(chunk)) if chunk.file as usize == number => Some(&chunk.data[..]),
            Some(Part::Chunk(_) | Part::Header(_)) | None => None,
        });
        assert_eq!(content, chunks.collect::<Vec<_>>().concat());
        assert_eq!((content.len() as u64, crc32c::crc32c(&content)), (file.bytes, file.crc32c));
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
