//! Entry points for fuzzing (`make fuzz`, docs/correctness.md): whatever comes from outside of the
//! process, fed with arbitrary bytes. Here are the targets by name; what each does with its input
//! stands in the room that reads such bytes, in a file `fuzzing`. Besides that nothing panics they
//! check what has to hold: what is written is read as the same, what is read in two ways is the
//! same, limits are kept.

mod rooms;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod tests;

/// Does with an input what the target is for, and says with `Some` that it was accepted.
type Run = fn(&[u8]) -> Option<()>;

/// Every target: its name and what it does.
const TARGETS: &[(&str, Run)] = &[
    ("request_heads", crate::http::fuzzing::heads),
    ("request_paths", crate::http::fuzzing::paths),
    ("forwarded_headers", crate::http::fuzzing::forwarded),
    ("filters", crate::http::fuzzing::filters),
    ("body_json", crate::http::fuzzing::json),
    ("body_xml", crate::http::fuzzing::xml),
    ("rendered_events", crate::http::fuzzing::rendered),
    ("stream_metadata", rooms::stream_metadata),
    ("group_settings", crate::http::fuzzing::group_settings),
    ("users_and_members", crate::http::fuzzing::users_and_members),
    ("stored_rows", crate::store::fuzzing::rows),
    ("stored_log", crate::raft::fuzzing::records),
    ("stored_groups", crate::consumers::fuzzing::records),
    ("stored_users", rooms::stored_users),
    ("stored_files", rooms::stored_files),
    ("commands", crate::machine::fuzzing::commands),
    ("raft_messages", crate::raft::fuzzing::node_messages),
    ("cluster_messages", crate::cluster::fuzzing::node_messages),
    ("snapshot_transfer", rooms::snapshot_transfer),
    ("backup_archive", crate::backup::fuzzing::archive),
    ("import_lines", rooms::import_lines),
    ("configuration", rooms::configuration),
];

/// Runs a target.
///
/// # Panics
/// Something that has to hold does not, or there is no such target.
pub fn run(target: &str, input: &[u8]) {
    run_of(target)(input);
}

fn run_of(target: &str) -> Run {
    match TARGETS.iter().find(|(name, _)| *name == target) {
        Some((_, run)) => *run,
        None => panic!("there is no target {target}"),
    }
}
