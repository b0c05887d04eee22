//! The archive of a backup: a tar file with the files of the database and, at its end, the
//! manifest.

use std::io::{self, Read, Write};
use std::path::Path;

use super::manifest::{self, Manifest};

/// Bytes of a manifest at most: some hundred thousand files.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 256 << 10;

/// Counts and sums up what is read through it.
pub(crate) struct Summed<R> {
    inner: R,
    /// Bytes so far.
    pub(crate) bytes: u64,
    /// Their CRC-32C.
    pub(crate) crc32c: u32,
}

impl<R: Read> Summed<R> {
    /// Nothing was read yet.
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, bytes: 0, crc32c: 0 }
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &buffer[..read]);
        Ok(read)
    }
}

/// Copies everything; the number of bytes and their CRC-32C.
pub(crate) fn copy(from: impl Read, to: &mut impl Write) -> io::Result<(u64, u32)> {
    let mut from = Summed::new(from);
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok((from.bytes, from.crc32c)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..read])?;
    }
}

/// Writes an archive.
pub(crate) struct ArchiveWriter<W: Write> {
    tar: tar::Builder<W>,
}

impl<W: Write> ArchiveWriter<W> {
    /// An empty archive.
    pub(crate) fn new(to: W) -> Self {
        Self { tar: tar::Builder::new(to) }
    }

    /// Adds a file of the database with this many bytes; returns their CRC-32C.
    pub(crate) fn file(&mut self, name: &str, bytes: u64, content: impl Read) -> io::Result<u32> {
        let mut content = Summed::new(content.take(bytes));
        let path = format!("{}/{name}", manifest::STATE);
        self.tar.append_data(&mut header(bytes), path, &mut content)?;
        if content.bytes == bytes {
            Ok(content.crc32c)
        } else {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name} has become shorter")))
        }
    }

    /// Adds the manifest, which completes the archive.
    pub(crate) fn finish(mut self, manifest: &Manifest) -> io::Result<W> {
        let text = manifest.encode()?;
        self.tar.append_data(&mut header(text.len() as u64), manifest::FILE_NAME, &text[..])?;
        let mut to = self.tar.into_inner()?;
        to.flush()?;
        Ok(to)
    }
}

fn header(bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header
}

/// What is in the first bytes of a compressed archive.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads an archive, compressed or not: every file of the database is shown to `visit` with its
/// name and size, in their order; at the end comes the manifest.
///
/// # Errors
/// The archive is damaged, was cut off, or is none; or the error of `visit`.
pub(crate) fn read(
    mut from: impl Read,
    mut visit: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
) -> io::Result<Manifest> {
    let mut first = Vec::with_capacity(ZSTD_MAGIC.len());
    from.by_ref().take(ZSTD_MAGIC.len() as u64).read_to_end(&mut first)?;
    let is_compressed = first == ZSTD_MAGIC;
    let whole = io::Cursor::new(first).chain(from);
    if is_compressed { read_tar(zstd::Decoder::new(whole)?, &mut visit) } else { read_tar(whole, &mut visit) }
}

fn read_tar(
    from: impl Read,
    visit: &mut dyn FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
) -> io::Result<Manifest> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut archive = tar::Archive::new(from);
    let mut manifest = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if manifest.is_some() {
            return Err(invalid(format!("the archive goes on after {}", manifest::FILE_NAME)));
        }
        let path = entry.path()?.into_owned();
        let bytes = entry.size();
        if path == Path::new(manifest::FILE_NAME) {
            let mut text = Vec::new();
            entry.take(MAX_MANIFEST_BYTES).read_to_end(&mut text)?;
            manifest = Some(Manifest::decode(&text).map_err(|error| invalid(error.to_string()))?);
            continue;
        }
        let name = path.strip_prefix(manifest::STATE).ok().and_then(Path::to_str).unwrap_or_default().to_owned();
        if !entry.header().entry_type().is_file() || !manifest::is_plain(&name) {
            return Err(invalid(format!("a backup has no file {}", path.display())));
        }
        let mut content = Summed::new(&mut entry);
        visit(&name, bytes, &mut content)?;
        if content.bytes != bytes {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the archive was cut off in {name}")));
        }
    }
    manifest.ok_or_else(|| invalid(format!("there is no {}: the archive was cut off", manifest::FILE_NAME)))
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::manifest;
    use super::*;

    fn archive() -> Vec<u8> {
        let mut writer = ArchiveWriter::new(Vec::new());
        assert_eq!(writer.file("000007.sst", 9, &b"some rows"[..]).unwrap(), crc32c::crc32c(b"some rows"));
        writer.finish(&manifest()).unwrap()
    }

    /// Name and content.
    type File = (String, Vec<u8>);

    fn files(archive: &[u8]) -> io::Result<(Vec<File>, Manifest)> {
        let mut files = Vec::new();
        let manifest = read(archive, |name, _, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            files.push((name.to_owned(), bytes));
            Ok(())
        })?;
        Ok((files, manifest))
    }

    #[test]
    fn an_archive_is_read_as_it_was_written_compressed_or_not() {
        let plain = archive();
        let compressed = zstd::encode_all(&plain[..], 1).unwrap();
        for archive in [plain, compressed] {
            let (files, read) = files(&archive).unwrap();
            assert_eq!(files, [("000007.sst".to_owned(), b"some rows".to_vec())]);
            assert_eq!(read, manifest());
        }
    }

    #[test]
    fn an_archive_that_was_cut_off_is_refused_wherever() {
        let whole = archive();
        let compressed = zstd::encode_all(&whole[..], 1).unwrap();
        // The blocks of zeros at the end are no content.
        for length in (0..whole.len() - 1024).step_by(97) {
            assert!(files(&whole[..length]).is_err(), "{length}");
        }
        for length in (0..compressed.len() - 1).step_by(7) {
            assert!(files(&compressed[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn files_that_lead_elsewhere_are_refused() {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_data(&mut header(1), "elsewhere/x", &b"x"[..]).unwrap();
        let error = files(&tar.into_inner().unwrap()).unwrap_err();
        assert!(error.to_string().contains("elsewhere/x"), "{error}");
    }

    #[test]
    fn a_file_that_became_shorter_is_no_part_of_a_backup() {
        assert!(ArchiveWriter::new(Vec::new()).file("CURRENT", 9, &b"short"[..]).is_err());
    }
}
