//! The recorded profile (docs/adr/0015-recorded-profile.md): debug builds never touch it, so
//! nothing else here would notice that it cannot be used.

// Clippy knows `#[test]` functions as tests, but not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn compile(options: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("one.rs");
    std::fs::write(&source, "pub fn one() -> u32 { 1 }").unwrap();
    Command::new(root.join("scripts/rustc"))
        .arg(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--crate-type", "lib", "--out-dir"])
        .arg(directory.path())
        .args(options)
        .arg(&source)
        .env_remove("RECORD_PROFILE")
        // A release build anywhere, not only at the root.
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn the_compiler_takes_it_in_optimised_builds() {
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("headwater.profdata");
    assert!(std::fs::metadata(profile).is_ok_and(|file| file.len() > 100_000), "it holds thousands of functions");
    let optimised = compile(&["-C", "opt-level=3"]);
    let said = String::from_utf8_lossy(&optimised.stderr);
    assert!(optimised.status.success() && said.is_empty(), "{said}");
    // Both options together are an error, so the other one was given.
    let twice = compile(&["-C", "opt-level=3", "-C", "profile-generate"]);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("profile-use"), "the profile was not used");
}

#[test]
fn other_builds_are_left_alone() {
    let debug = compile(&["-C", "opt-level=1", "-C", "profile-generate"]);
    assert!(debug.status.success(), "{}", String::from_utf8_lossy(&debug.stderr));
}
