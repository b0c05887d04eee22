//! The files that a process may have open, divided between the databases, other nodes and clients.
//!
//! A database that cannot open a file ends the node. So everything that strangers can make the
//! process open has a bound below what it may open at all, less what the node needs for itself.

/// Open files with which a node does not start.
pub(crate) const LEAST_OPEN_FILES: u64 = 256;

/// Files of the process itself: write-ahead logs and manifests, snapshots being sent or received,
/// connections to other nodes, standard streams, and what the runtime waits with.
const OWN_FILES: u64 = 128;

/// Databases of the state that are open at a time: while a snapshot is installed the new one, and
/// the one before it until its last reader has gone.
const STATES: u64 = 2;

/// How many files each part of a node may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// Tables of one database of the state.
    pub(crate) state_tables: u64,
    /// Tables of the log.
    pub(crate) log_tables: u64,
    /// Connections of other nodes.
    pub(crate) nodes: u64,
    /// Connections of clients.
    pub(crate) clients: u64,
}

/// The process may open too few files for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process may open only {0} files, and {LEAST_OPEN_FILES} are the least a node needs: raise `ulimit -n`")]
pub(crate) struct TooFewFiles(pub(crate) u64);

impl OpenFiles {
    /// More than any test needs.
    #[cfg(test)]
    pub(crate) const AMPLE: Self = Self { state_tables: 512, log_tables: 256, nodes: 1_024, clients: 10_000 };

    /// All files of a process whose parts open as many as they may.
    pub(crate) const fn sum(&self) -> u64 {
        OWN_FILES + STATES * self.state_tables + self.log_tables + self.nodes + self.clients
    }

    /// As many as these at most, in a process that may open `allowed` files: clients get what the
    /// others leave.
    ///
    /// # Errors
    /// There are fewer than [`LEAST_OPEN_FILES`].
    pub(crate) fn within(self, allowed: u64) -> Result<Self, TooFewFiles> {
        if allowed < LEAST_OPEN_FILES {
            return Err(TooFewFiles(allowed));
        }
        if allowed >= self.sum() {
            return Ok(self);
        }
        let parts = Self {
            state_tables: (allowed / 8).clamp(32, self.state_tables),
            log_tables: (allowed / 16).clamp(24, self.log_tables),
            nodes: (allowed / 16).clamp(16, self.nodes),
            clients: 0,
        };
        Ok(Self { clients: (allowed - parts.sum()).min(self.clients), ..parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: OpenFiles = OpenFiles::AMPLE;

    #[test]
    fn no_division_is_more_than_what_is_allowed_and_each_leaves_room_for_clients() {
        for allowed in LEAST_OPEN_FILES..2 * MOST.sum() {
            let parts = MOST.within(allowed).unwrap();
            assert!(parts.sum() <= allowed, "{allowed}: {parts:?}");
            assert!(parts.clients >= allowed / 16, "{allowed}: {parts:?}");
        }
        assert_eq!(MOST.within(MOST.sum()), Ok(MOST));
    }

    #[test]
    fn too_few_files_are_refused_in_a_sentence() {
        assert!(MOST.within(LEAST_OPEN_FILES).is_ok());
        let refused = MOST.within(LEAST_OPEN_FILES - 1).unwrap_err();
        assert!(refused.to_string().starts_with("this process may open only 255 files"), "{refused}");
    }
}
