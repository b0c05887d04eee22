//! The recorded profile (docs/adr/0015-recorded-profile.md): only `scripts/release` touches it, so
//! nothing else here would notice that it cannot be used.

// Clippy knows `#[test]` functions as tests, but not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The options that `scripts/release` gives to the compiler: what a `cargo` in its place is told.
fn release_options() -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let cargo = directory.path().join("cargo");
    std::fs::write(&cargo, "#!/bin/sh\nprintf %s \"$CARGO_ENCODED_RUSTFLAGS\"\n").unwrap();
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new(root().join("scripts/release"))
        .env("PATH", format!("{}:{path}", directory.path().display()))
        .env("RUSTFLAGS", "-C opt-level=3")
        // A release may be built from anywhere, not only at the root.
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().split('\x1f').map(str::to_owned).collect()
}

#[test]
fn the_compiler_accepts_the_options_of_a_release() {
    let options = release_options();
    let profile = options.iter().find_map(|option| option.strip_prefix("profile-use=")).unwrap();
    let bytes = std::fs::metadata(profile).unwrap().len();
    assert!(bytes > 100_000, "{bytes} bytes are not thousands of functions");
    assert!(options.starts_with(&["-C".to_owned(), "opt-level=3".to_owned()]), "RUSTFLAGS are kept: {options:?}");

    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("one.rs");
    std::fs::write(&source, "pub fn one() -> u32 { 1 }").unwrap();
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--crate-type", "lib", "--out-dir"])
        .arg(directory.path())
        .args(&options)
        .arg(&source)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
