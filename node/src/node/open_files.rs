//! How many files a node may have open.

use crate::descriptors::OpenFiles;
use crate::transport::listener;
use crate::{http, log, store};

/// Open files of a node that may open as many as it likes.
pub const OPEN_FILES: OpenFiles = OpenFiles {
    state_tables: store::options::MAX_OPEN_FILES,
    log_tables: log::MAX_OPEN_TABLES,
    nodes: listener::MAX_CONNECTIONS as u64,
    clients: http::limits::MAX_CONNECTIONS as u64,
};

/// What the parts of the node may open. Many systems start processes with 1,024 open files and let
/// them have more when they ask.
///
/// # Errors
/// There are too few for a node.
pub(crate) fn raise_open_files() -> anyhow::Result<OpenFiles> {
    let allowed = rlimit::increase_nofile_limit(OPEN_FILES.sum()).or_else(|_| rlimit::Resource::NOFILE.get_soft())?;
    let parts = OPEN_FILES.within(allowed)?;
    if let Some(shortage) = shortage(allowed, parts) {
        tracing::warn!("{shortage}");
    }
    Ok(parts)
}

/// The same before a start: a sentence if the node will serve fewer clients.
pub(super) fn check_open_files() -> anyhow::Result<Option<String>> {
    let allowed = rlimit::Resource::NOFILE.get_hard()?.min(OPEN_FILES.sum());
    Ok(shortage(allowed, OPEN_FILES.within(allowed)?))
}

fn shortage(allowed: u64, parts: OpenFiles) -> Option<String> {
    (parts != OPEN_FILES).then(|| {
        format!(
            "the limit of open files is low, so the node serves only {} clients at a time: it may open {allowed} files and \
             wants {}; raise `ulimit -n`",
            parts.clients,
            OPEN_FILES.sum()
        )
    })
}
