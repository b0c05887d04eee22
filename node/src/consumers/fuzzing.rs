//! What groups of consumers store, fed with arbitrary bytes (docs/correctness.md, "Fuzzing").

use serde_json::from_slice;

use super::group::Progress;
use super::info::GroupInfo;
use super::record::{CheckpointMetadata, Document, bare_progress, named_in, position};

/// The settings of a group, its checkpoint or what is told of it, by the first byte.
pub(crate) fn records(input: &[u8]) -> Option<()> {
    let (&kind, document) = input.split_first()?;
    match kind % 4 {
        0 => {
            let read: Document = from_slice(document).ok()?;
            let written = serde_json::to_vec(&read).ok()?;
            assert_eq!(from_slice::<Document>(&written).ok(), Some(read));
            let name = named_in(document);
            assert_eq!(named_in(&written), name);
            name.map(drop)
        }
        1 => {
            let CheckpointMetadata { progress } = from_slice(document).ok()?;
            check(&progress);
            let written = serde_json::to_vec(&CheckpointMetadata { progress: progress.clone() }).ok()?;
            assert_eq!(from_slice::<CheckpointMetadata>(&written).ok().map(|of| of.progress), Some(progress));
            Some(())
        }
        2 => {
            let progress = bare_progress(document)?;
            check(&progress);
            let written = serde_json::to_vec(&position(progress.checkpoint())).ok()?;
            assert_eq!(bare_progress(&written), Some(progress));
            Some(())
        }
        _ => {
            let read: GroupInfo = from_slice(document).ok()?;
            let written = serde_json::to_vec(&read).ok()?;
            let again: GroupInfo = from_slice(&written).ok()?;
            assert_eq!(again.name, read.name);
            assert_eq!((again.settings, again.filter, again.parked), (read.settings, read.filter, read.parked));
            Some(())
        }
    }
}

/// Whatever was stored, the next start goes on behind what is done and before what is open.
fn check(progress: &Progress) {
    let (first_open, next) = (progress.source.first_open(), progress.source.next);
    assert!(first_open <= next);
    assert!(progress.source.open.iter().all(|run| run.first <= run.last && run.last < next));
    assert!(progress.checkpoint() >= -1);
}
