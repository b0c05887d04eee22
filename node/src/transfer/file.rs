//! A file of an export, or standard input, as a source.

use std::os::fd::AsFd;
use std::path::PathBuf;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::error::TransferError;
use super::source::Batch;
use crate::ndjson::{self, Line};

/// Events in one batch, and bytes of lines: about what a page of a server has.
const BATCH_EVENTS: usize = 16 * 1024;
const BATCH_BYTES: usize = 1024 * 1024;
/// Read ahead of the lines.
const BUFFER_BYTES: usize = 256 * 1024;

/// Reads lines.
pub(super) struct FileSource {
    path: PathBuf,
    lines: Box<dyn AsyncBufRead + Send + Unpin>,
    /// Bytes of the file, if that is known.
    bytes: Option<u64>,
    line: u64,
    events: u64,
    reached: u64,
    has_ended: bool,
    /// It ends within a line.
    is_cut: bool,
}

impl FileSource {
    /// A file.
    pub(super) async fn open(path: PathBuf) -> Result<Self, TransferError> {
        let unusable = |error| TransferError::File { path: path.clone(), error };
        let file = tokio::fs::File::open(&path).await.map_err(unusable)?;
        let bytes = file.metadata().await.ok().filter(std::fs::Metadata::is_file).map(|found| found.len());
        let lines = Box::new(BufReader::with_capacity(BUFFER_BYTES, file));
        Ok(Self { path, lines, bytes, line: 0, events: 0, reached: 0, has_ended: false, is_cut: false })
    }

    /// Standard input.
    ///
    /// # Errors
    /// It is closed.
    pub(super) fn standard_input() -> std::io::Result<Self> {
        let input = std::fs::File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        let lines = Box::new(BufReader::with_capacity(BUFFER_BYTES, tokio::fs::File::from_std(input)));
        Ok(Self {
            path: "-".into(),
            lines,
            bytes: None,
            line: 0,
            events: 0,
            reached: 0,
            has_ended: false,
            is_cut: false,
        })
    }

    pub(super) async fn next(&mut self) -> Result<Batch, TransferError> {
        if self.is_cut {
            return Err(TransferError::CutOff { path: self.path.clone() });
        }
        let mut batch = Batch { end: self.bytes, ..Batch::default() };
        let mut bytes = 0;
        let mut text = Vec::new();
        while batch.events.len() + batch.ends.len() < BATCH_EVENTS && bytes < BATCH_BYTES && !batch.is_at_head {
            text.clear();
            let read = self.lines.read_until(b'\n', &mut text).await;
            let read = read.map_err(|error| TransferError::File { path: self.path.clone(), error })?;
            if read == 0 {
                let is_empty = batch.events.is_empty() && batch.ends.is_empty();
                if !self.has_ended && is_empty {
                    return Err(TransferError::CutOff { path: self.path.clone() });
                }
                // What came before the cut is stored first.
                batch.is_at_head = self.has_ended;
                break;
            }
            self.line += 1;
            bytes += read;
            if let Err(error) = self.take(text.trim_ascii(), &mut batch) {
                self.is_cut = !text.ends_with(b"\n");
                if self.is_cut {
                    // What came before the cut is stored first.
                    break;
                }
                return Err(error);
            }
        }
        self.reached += bytes as u64;
        batch.reached = self.reached;
        Ok(batch)
    }

    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), TransferError> {
        if line.is_empty() {
            return Ok(());
        }
        match ndjson::parse(line) {
            Ok(Line::Event(event)) => {
                self.events += 1;
                batch.events.push(event);
            }
            Ok(Line::Next(next)) => batch.ends.push(next),
            Ok(Line::Header(_)) => {}
            Ok(Line::End(end)) if end.events == self.events => self.has_ended = true,
            Ok(Line::End(end)) => {
                return Err(self.wrong(format!("the file should have {} events and has {}", end.events, self.events)));
            }
            Ok(Line::Page(_) | Line::Ends(_) | Line::Progress(_)) => {
                return Err(self.wrong("it is no line of a file".to_owned()));
            }
            Err(error) => return Err(self.wrong(error.to_string())),
        }
        Ok(())
    }

    fn wrong(&self, reason: String) -> TransferError {
        TransferError::Line { path: self.path.clone(), line: self.line, reason }
    }
}
