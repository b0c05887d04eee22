//! A backup as it is read, fed with arbitrary bytes (docs/correctness.md, "Fuzzing").

use std::io::{self, Read as _};

use super::archive::{self, ArchiveWriter};
use super::manifest::{Manifest, is_plain};

/// Most bytes of content that are read: little can be compressed into a great deal.
const MAX_BYTES: u64 = 1 << 20;

/// The archive of a backup. What was read can be written, and is then read as the same.
pub(crate) fn archive(input: &[u8]) -> Option<()> {
    let (manifest, files) = read(input)?;
    let mut writer = ArchiveWriter::new(Vec::new());
    for (name, content) in &files {
        let written = writer.file(name, content.len() as u64, &content[..]);
        // The name of a file has at most as many bytes as a header of an archive has room for.
        if written.is_err() {
            assert!(name.len() > 90, "{name}: {written:?}");
            return None;
        }
        assert_eq!(written.ok(), Some(crc32c::crc32c(content)));
    }
    let archive = writer.finish(&manifest).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read(&archive), Some((manifest, files)));
    Some(())
}

/// The files of an archive by name, in its order.
type Files = Vec<(String, Vec<u8>)>;

fn read(archive: &[u8]) -> Option<(Manifest, Files)> {
    let mut files = Files::new();
    let mut left = MAX_BYTES;
    let manifest = archive::read(archive, |name, bytes, content| {
        assert!(is_plain(name), "{name}");
        if bytes > left {
            return Err(io::Error::other("too large for this test"));
        }
        left -= bytes;
        let mut all = Vec::new();
        content.take(bytes + 1).read_to_end(&mut all)?;
        files.push((name.to_owned(), all));
        Ok(())
    });
    manifest.ok().map(|manifest| (manifest, files))
}

/// The document that describes a backup, which the checksum of each version of it follows.
pub(crate) fn manifest(input: &[u8]) -> Option<()> {
    let manifest = Manifest::decode(input).ok().or_else(|| {
        // As if the checksum was right, so that more than this is tried.
        let text = std::str::from_utf8(input).ok()?;
        let crc32c = crc32c::crc32c(text.as_bytes());
        let whole = format!("{{\"format\":1,\"crc32c\":\"{crc32c:08x}\",\"backup\":{text}}}");
        Manifest::decode(whole.as_bytes()).ok()
    })?;
    assert!(manifest.files.iter().all(|file| is_plain(&file.name)));
    let written = manifest.encode().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(Manifest::decode(&written).ok(), Some(manifest.clone()));
    assert!(manifest.identifying().is_ok());
    let _ = (manifest.total_bytes(), manifest.tables_of(&manifest.database));
    Some(())
}

/// An archive as a node makes it before it is compressed, which each version of zstd does in its
/// own way.
#[cfg(test)]
pub(crate) fn seed() -> Vec<(&'static str, Vec<u8>)> {
    let mut writer = ArchiveWriter::new(Vec::new());
    for (name, content) in [("CURRENT", &b"MANIFEST-000005\n"[..]), ("000007.sst", b"rows")] {
        writer.file(name, content.len() as u64, content).unwrap();
    }
    vec![("plain", writer.finish(&super::manifest::tests::manifest()).unwrap())]
}
