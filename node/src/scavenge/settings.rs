//! The settings that are the same on every node: they are kept in the metadata of `$scavenges`.

use std::time::Duration;

use super::record::RUNS;
use crate::event::id_retention;
use crate::store::{ReadError, ReadView};

/// How long the ids of removed events stay known; `None` for ever.
pub(super) fn id_retention(view: &ReadView<'_>) -> Result<Option<Duration>, ReadError> {
    let document = view.last_visible_event(&format!("$${RUNS}"))?;
    Ok(match document {
        Some(document) => id_retention::of(&document.data),
        None => Some(id_retention::DEFAULT_ID_RETENTION),
    })
}
