//! What was left out or changed on the way, and why: counted for the end, and line by line in a
//! file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::error::TransferError;
use crate::event::RecordedEvent;

/// Remarks that are repeated on standard error; the file has all of them.
const SHOWN_REMARKS: usize = 20;

/// So many things, in words.
pub(super) fn count_of(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// Collects what there is to say.
pub(super) struct LeftOut {
    file: Option<(PathBuf, BufWriter<File>)>,
    /// Events by reason.
    skipped: BTreeMap<&'static str, u64>,
    remarks: usize,
    shown: Vec<String>,
}

impl LeftOut {
    /// With the file to write to.
    pub(super) fn new(file: Option<PathBuf>) -> Result<Self, TransferError> {
        let open = |path: PathBuf| match OpenOptions::new().append(true).create(true).mode(0o600).open(&path) {
            Ok(file) => Ok((path, BufWriter::new(file))),
            Err(error) => Err(TransferError::File { path, error }),
        };
        let file = file.map(open).transpose()?;
        Ok(Self { file, skipped: BTreeMap::new(), remarks: 0, shown: Vec::new() })
    }

    /// An event stays behind.
    pub(super) fn skipped(&mut self, event: &RecordedEvent, reason: &'static str) -> Result<(), TransferError> {
        *self.skipped.entry(reason).or_default() += 1;
        self.write(format_args!("left out {}@{} ({}): {reason}", event.number, event.stream, event.event_id))
    }

    /// Anything else that the user should know.
    pub(super) fn remark(&mut self, remark: String) -> Result<(), TransferError> {
        self.remarks += 1;
        self.write(format_args!("{remark}"))?;
        if self.shown.len() < SHOWN_REMARKS {
            self.shown.push(remark);
        }
        Ok(())
    }

    /// Writes what is buffered.
    pub(super) fn flush(&mut self) -> Result<(), TransferError> {
        match &mut self.file {
            Some((path, file)) => file.flush().map_err(|error| TransferError::File { path: path.clone(), error }),
            None => Ok(()),
        }
    }

    /// Events that stayed behind.
    pub(super) fn count(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// A line for each reason and remark.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .skipped
            .iter()
            .map(|(reason, count)| format!("left out {}: {reason}", count_of(*count, "event")))
            .collect();
        lines.extend(self.shown.iter().cloned());
        if self.remarks > self.shown.len() {
            lines.push(format!("and {} remarks more; --log FILE writes all of them", self.remarks - self.shown.len()));
        }
        lines
    }

    fn write(&mut self, line: std::fmt::Arguments<'_>) -> Result<(), TransferError> {
        match &mut self.file {
            Some((path, file)) => {
                writeln!(file, "{line}").map_err(|error| TransferError::File { path: path.clone(), error })
            }
            None => Ok(()),
        }
    }
}
