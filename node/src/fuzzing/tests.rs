//! Every input that is kept runs in each test, so that no target rots and no finding comes back.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use super::seeds::seeds;
use super::{TARGETS, run_of};

fn fuzz_crate() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The files below a directory of the crate for fuzzing, by target and name.
fn inputs(directory: &str) -> BTreeMap<(String, String), Vec<u8>> {
    let mut inputs = BTreeMap::new();
    for (target, _) in TARGETS {
        let files = std::fs::read_dir(fuzz_crate().join(directory).join(target));
        for file in files.into_iter().flatten() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            inputs.insert(((*target).to_owned(), name), std::fs::read(file.path()).unwrap());
        }
    }
    inputs
}

/// Whether the target accepts the input.
fn accepts(target: &str, name: &str, input: &[u8]) -> bool {
    let run = run_of(target);
    let accepted = catch_unwind(|| run(input).is_some());
    assert!(accepted.is_ok(), "{target} fails on {name}; the reason stands above");
    accepted.unwrap_or_default()
}

#[test]
fn targets_accept_their_seeds() {
    let seeds = inputs("seeds");
    for ((target, name), input) in &seeds {
        assert_eq!(accepts(target, name, input), !name.starts_with("refused"), "{target}: {name}");
        assert!(input.len() <= 8 * 1024, "{target}: {name} is too large for a seed");
    }
    for (target, _) in TARGETS {
        let accepted = seeds.keys().filter(|(of, name)| of == target && !name.starts_with("refused"));
        assert!(accepted.count() > 0, "{target} has no seed");
    }
}

#[test]
fn what_was_found_once_is_not_found_again() {
    for ((target, name), input) in inputs("regressions") {
        accepts(&target, &name, &input);
    }
}

/// `UPDATE_SEEDS=1` writes them, after a change of a format.
#[test]
fn seeds_of_formats_that_are_no_text_are_what_is_written_today() {
    let is_update = std::env::var_os("UPDATE_SEEDS").is_some();
    let kept = inputs("seeds");
    for (target, name, input) in seeds() {
        assert!(accepts(target, name, &input), "{target}: {name}");
        if is_update {
            let directory = fuzz_crate().join("seeds").join(target);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(name), &input).unwrap();
        } else {
            let is_kept = kept.get(&(target.to_owned(), name.to_owned())) == Some(&input);
            assert!(is_kept, "{target}: {name} is written in another form now; UPDATE_SEEDS=1 writes it anew");
        }
    }
}

#[test]
fn every_target_is_a_program_of_the_crate_for_fuzzing() {
    let manifest = std::fs::read_to_string(fuzz_crate().join("Cargo.toml")).unwrap();
    let mut programs = manifest.split("[[bin]]").skip(1);
    for (target, _) in TARGETS {
        let program = programs.next().unwrap_or_default();
        assert!(program.contains(&format!("name = \"{target}\"")), "{target}: {program}");
        let source = std::fs::read_to_string(fuzz_crate().join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(source.contains(&format!("run(\"{target}\"")), "{source}");
    }
    assert_eq!(programs.next(), None);
    assert!(catch_unwind(|| super::run("none", b"")).is_err(), "there is no target of this name");
}

/// What is fuzzed is what is shipped.
#[test]
fn dependencies_are_fuzzed_in_the_versions_of_the_product() {
    let versions = |path: &Path| -> Vec<String> {
        let lock = std::fs::read_to_string(path).unwrap();
        let packages = lock.split("[[package]]").skip(1);
        let version = |package: &str| package.lines().skip(1).take(2).collect::<Vec<_>>().join(" ");
        packages.map(version).collect()
    };
    let own = ["arbitrary", "headwater-fuzz", "libfuzzer-sys"].map(|name| format!("name = \"{name}\""));
    let product = versions(&fuzz_crate().join("../Cargo.lock"));
    let fuzzed = versions(&fuzz_crate().join("Cargo.lock"));
    assert!(fuzzed.len() > 100);
    for package in fuzzed {
        let is_own = own.iter().any(|name| package.starts_with(name));
        assert!(is_own || product.contains(&package), "{package} is not in Cargo.lock: see fuzz/Cargo.toml");
    }
}
