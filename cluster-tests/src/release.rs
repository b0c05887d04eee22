//! Programs of earlier releases, from which a cluster is upgraded.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// A line for each, oldest first: tag and commit.
const RELEASES: &str = include_str!("../releases");

/// An earlier release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    tag: &'static str,
    commit: &'static str,
}

/// The first one.
pub fn first() -> anyhow::Result<Release> {
    all()?.first().copied().context("cluster-tests/releases names none")
}

/// The last one.
pub fn last() -> anyhow::Result<Release> {
    all()?.last().copied().context("cluster-tests/releases names none")
}

fn all() -> anyhow::Result<Vec<Release>> {
    let of_line = |line: &'static str| {
        let (tag, commit) = line.split_once(' ').context("cluster-tests/releases: no tag and commit")?;
        Ok(Release { tag, commit })
    };
    RELEASES.lines().map(of_line).collect()
}

impl Release {
    /// Finds its program, which `scripts/earlier-release` has built. `None`, after a loud line,
    /// only in a clone that lacks the commit: then there is nothing to build it from.
    pub fn program(self) -> anyhow::Result<Option<PathBuf>> {
        let Self { tag, commit } = self;
        if let Some(built) = self.built() {
            return Ok(Some(built));
        }
        let asked = Command::new("git")
            .args(["cat-file", "-e", &format!("{commit}^{{commit}}")])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .stderr(std::process::Stdio::null())
            .status();
        // Sources without git lack it, too.
        let has_commit = asked.is_ok_and(|status| status.success());
        anyhow::ensure!(!has_commit, "{tag} is missing: scripts/earlier-release {tag} builds it");
        // Not by a macro, whose lines are kept from whoever runs tests that pass.
        writeln!(std::io::stderr(), "!!! this clone lacks {tag} ({commit}): the upgrade from it is NOT tested")?;
        Ok(None)
    }

    /// Why nodes cannot be upgraded from it here; `None` where they can.
    pub fn why_not(self) -> Option<String> {
        self.built().is_none().then(|| format!("scripts/earlier-release {} has not built it", self.tag))
    }

    /// Its program in the target directory of the running one, if it is built.
    fn built(self) -> Option<PathBuf> {
        let program = Path::new("releases").join(self.commit).join("headwater");
        let own = std::env::current_exe().ok()?;
        own.ancestors().map(|directory| directory.join(&program)).find(|built| built.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_named_by_tag_and_commit() {
        let all = all().unwrap();
        assert!(all.len() >= 2 && all[0] == first().unwrap() && all[all.len() - 1] == last().unwrap());
        for Release { tag, commit } in all {
            assert!(tag.starts_with('v') && commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}
