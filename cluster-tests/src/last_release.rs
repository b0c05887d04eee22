//! The program of the last release, from which a cluster is upgraded.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// Tag and commit.
const LAST_RELEASE: &str = include_str!("../last-release");

/// Finds the program that `scripts/last-release` has built. `None`, after a loud line, only in a
/// clone that lacks the commit: then there is nothing to build it from.
pub fn program() -> anyhow::Result<Option<PathBuf>> {
    let (tag, commit) = LAST_RELEASE.trim().split_once(' ').context("cluster-tests/last-release: no tag and commit")?;
    let own = std::env::current_exe().context("cannot find the running program")?;
    // This one lies in target/<profile>/deps.
    let target = own.ancestors().nth(3).context("not in a target directory")?;
    let program = target.join("last-release").join(commit).join("headwater");
    if program.is_file() {
        return Ok(Some(program));
    }
    let asked = Command::new("git")
        .args(["cat-file", "-e", &format!("{commit}^{{commit}}")])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stderr(std::process::Stdio::null())
        .status();
    // Sources without git lack it, too.
    let has_commit = asked.is_ok_and(|status| status.success());
    anyhow::ensure!(!has_commit, "{} is missing: scripts/last-release builds it", program.display());
    // Not by a macro, whose lines are kept from whoever runs tests that pass.
    writeln!(std::io::stderr(), "!!! this clone lacks {tag} ({commit}): the upgrade from it is NOT tested")?;
    Ok(None)
}
