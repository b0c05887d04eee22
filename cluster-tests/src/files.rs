//! Damage to the files of a stopped node.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Every regular file below `directory`, sorted by path.
pub fn files_below(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        let entries = std::fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => pending.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The newest non-empty write-ahead log of a RocksDB directory: `NNNNNN.log` with the highest
/// number.
pub fn newest_wal(directory: &Path) -> anyhow::Result<PathBuf> {
    let number =
        |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
    let logs = files_below(directory)?.into_iter().filter(|path| {
        path.extension().is_some_and(|extension| extension == "log")
            && path.metadata().is_ok_and(|metadata| metadata.len() > 0)
    });
    logs.filter_map(|path| number(&path).map(|number| (number, path)))
        .max()
        .map(|(_, path)| path)
        .with_context(|| format!("no write-ahead log in {}", directory.display()))
}

/// Removes the last `bytes` of a file.
pub fn cut(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let length = file.metadata()?.len();
    anyhow::ensure!(length >= bytes, "{} has only {length} bytes", path.display());
    file.set_len(length - bytes).context("cannot cut")
}

/// Adds random bytes to the end of a file.
pub fn append_rubbish(path: &Path, bytes: usize) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let length = file.metadata()?.len();
    file.write_all_at(&vec![0xA5; bytes], length).context("cannot append")
}

/// Inverts all bits of the byte at `offset`.
pub fn flip_byte(path: &Path, offset: u64) -> anyhow::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let mut byte = [0u8];
    file.read_exact_at(&mut byte, offset).with_context(|| format!("no byte {offset} in {}", path.display()))?;
    byte[0] = !byte[0];
    file.write_all_at(&byte, offset).context("cannot write")
}

/// Copies a directory with all it contains.
pub fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    for file in files_below(from)? {
        let target = to.join(file.strip_prefix(from).context("not below")?);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        std::fs::copy(&file, &target).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_where_it_was_requested() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("000009.log");
        std::fs::write(directory.path().join("000012.log"), b"").unwrap();
        std::fs::write(directory.path().join("000008.log"), b"older").unwrap();
        std::fs::write(&log, b"abcdef").unwrap();
        assert_eq!(newest_wal(directory.path()).unwrap(), log);
        flip_byte(&log, 2).unwrap();
        cut(&log, 1).unwrap();
        append_rubbish(&log, 2).unwrap();
        assert_eq!(std::fs::read(&log).unwrap(), [b'a', b'b', !b'c', b'd', b'e', 0xA5, 0xA5]);
        assert!(cut(&log, 100).is_err());
    }
}
