//! What was found.

use std::fmt;

/// Damages that are named; a longer list does not help.
const MAX_NAMED: usize = 100;

/// What was read, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Events that could be read.
    pub(crate) events: u64,
    /// Streams.
    pub(crate) streams: u64,
    /// Events that were removed by a scavenge.
    pub(crate) removed: u64,
    /// Entries of the log, of a data directory.
    pub(crate) log_entries: Option<u64>,
    /// The state has nothing yet: the log has all of it, and the next start applies it.
    pub(crate) is_in_log_only: bool,
    named: Vec<String>,
    damages: u64,
}

impl Report {
    /// Something is wrong; a sentence that names what it touches.
    pub(crate) fn damage(&mut self, what: String) {
        self.damages += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push(what);
        }
    }

    /// How many things are wrong.
    pub(crate) fn damages(&self) -> u64 {
        self.damages
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for damage in &self.named {
            writeln!(f, "damage: {damage}")?;
        }
        let more = self.damages.saturating_sub(self.named.len() as u64);
        if more > 0 {
            writeln!(f, "damage: and {more} more")?;
        }
        write!(f, "{} events in {} streams", self.events, self.streams)?;
        if self.is_in_log_only {
            write!(f, " (the node ended before it wrote any; its next start takes all from the log)")?;
        }
        if self.removed > 0 {
            write!(f, ", {} removed before", self.removed)?;
        }
        if let Some(entries) = self.log_entries {
            write!(f, ", {entries} entries in the log")?;
        }
        match self.damages {
            0 => write!(f, "; nothing is wrong"),
            damages => write!(f, "; damages: {damages}"),
        }
    }
}
