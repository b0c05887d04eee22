//! Data directories that earlier versions wrote can be opened: one is kept of each format since 4.
//! Backups and exports of earlier versions can be read: one is kept of each format.
//!
//! `scripts/fixture` makes those for the formats of the present program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod support;

use std::path::{Path, PathBuf};

use support::client::{self, Answer};
use support::process::{Process, output};

/// The formats of which a directory is kept.
const FORMATS: &[u32] = &[4, 5];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Unpacks the directory that a program of this format wrote.
fn unpacked(format: u32) -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let archive = std::fs::File::open(fixtures().join(format!("format-{format}.tar.zst"))).unwrap();
    tar::Archive::new(zstd::Decoder::new(archive).unwrap()).unpack(data.path()).unwrap();
    data
}

fn start(data: &Path) -> (Process, String) {
    Process::start_single(&[&format!("--data-dir={}", data.display())])
}

fn get(base: &str, path: &str, login: &str) -> Answer {
    let accept = if path.starts_with("/users") { "application/json" } else { "application/vnd.eventstore.atom+json" };
    let headers = [("Accept", accept.to_owned()), ("Authorization", format!("Basic {login}"))];
    client::send(base, "GET", path, &headers, b"")
}

const ADMIN: &str = "YWRtaW46Y2hhbmdlaXQ=";
const ANN: &str = "YW5uOnNlY3JldA==";

/// Numbers of the entries of a page, newest first.
fn numbers(answer: &Answer) -> Vec<u64> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let feed = answer.json();
    let titles = feed["entries"].as_array().unwrap().iter().map(|entry| entry["title"].as_str().unwrap().to_owned());
    titles.map(|title| title.split('@').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_directory_of_every_format_since_4_is_opened_with_all_that_is_in_it() {
    for format in FORMATS {
        let data = unpacked(*format);
        // What was written is there after one more start, too.
        for expected in [&[9, 8, 7, 6, 5][..], &[10, 9, 8, 7, 6]] {
            let (_node, base) = start(data.path());
            assert_eq!(numbers(&get(&base, "/streams/orders", ADMIN)), expected, "format {format}");
            assert_eq!(get(&base, "/streams/gone", ADMIN).status, 404, "format {format}");
            assert_eq!(get(&base, "/streams/dead", ADMIN).status, 410, "format {format}");
            assert_eq!(get(&base, "/users/$current", ANN).status, 200, "format {format}");
            let resolved = get(&base, "/streams/links?embed=rich", ADMIN).json();
            assert_eq!(resolved["entries"][0]["title"], "9@orders", "format {format}");
            if expected[0] == 9 {
                let headers = [
                    ("Content-Type", "application/json".to_owned()),
                    ("ES-EventType", "placed".to_owned()),
                    ("Authorization", format!("Basic {ANN}")),
                    // The id of the last event: a repetition across the formats.
                    ("ES-EventId", "00000001-0000-4000-8000-000000000009".to_owned()),
                ];
                let repeated = client::send(&base, "POST", "/streams/orders", &headers, b"{}");
                assert!(repeated.header("location").unwrap().ends_with("/9"), "format {format}: {repeated:?}");
                let headers = headers.map(|(name, value)| {
                    let is_id = name == "ES-EventId";
                    (name, if is_id { "00000001-0000-4000-8000-00000000000a".to_owned() } else { value })
                });
                assert_eq!(client::send(&base, "POST", "/streams/orders", &headers, b"{}").status, 201);
            }
        }
    }
}

/// Runs the program to its end, which has to be a good one.
fn run(arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let output = output(&arguments);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// What every copy of the fixture has, of which no event was written since.
fn assert_is_copy(base: &str) {
    assert_eq!(numbers(&get(base, "/streams/orders", ADMIN)), [9, 8, 7, 6, 5]);
    assert_eq!(get(base, "/streams/gone", ADMIN).status, 404);
    assert_eq!(get(base, "/streams/dead", ADMIN).status, 410);
    assert_eq!(get(base, "/users/$current", ANN).status, 200);
    let resolved = get(base, "/streams/links?embed=rich", ADMIN).json();
    assert_eq!(resolved["entries"][0]["title"], "9@orders");
}

/// The formats of which a backup is kept.
const BACKUPS: &[u32] = &[1];

#[test]
fn a_backup_of_every_format_is_sound_and_can_be_restored() {
    for format in BACKUPS {
        let directory = tempfile::tempdir().unwrap();
        let archive = fixtures().join(format!("backup-{format}.tar.zst")).display().to_string();
        let said = run(&["verify", &archive]);
        assert!(said.contains("nothing is wrong"), "format {format}: {said}");
        let data = directory.path().join("data");
        run(&["restore", "--from", &archive, "--data-dir", data.to_str().unwrap()]);
        let (_node, base) = start(&data);
        assert_is_copy(&base);
    }
}

/// Versions of the lines of exports.
const EXPORTS: &[u32] = &[1];

#[test]
fn an_export_of_every_version_can_be_imported() {
    for version in EXPORTS {
        let directory = tempfile::tempdir().unwrap();
        let file = fixtures().join(format!("export-{version}.ndjson"));
        let (_node, base) = start(&directory.path().join("data"));
        let password = directory.path().join("password");
        std::fs::write(&password, "changeit").unwrap();
        let password = format!("--to-password-file={}", password.display());
        run(&["import", "--from", file.to_str().unwrap(), "--to", &base, "--to-user", "admin", &password]);
        assert_is_copy(&base);
        // The stream was deleted with five events, which a scavenge has removed.
        let headers = [
            ("Content-Type", "application/json".to_owned()),
            ("ES-EventType", "placed".to_owned()),
            ("Authorization", format!("Basic {ADMIN}")),
            ("ES-EventId", "00000002-0000-4000-8000-000000000009".to_owned()),
        ];
        let again = client::send(&base, "POST", "/streams/gone", &headers, b"{}");
        assert!(again.header("location").is_some_and(|location| location.ends_with("/5")), "{again:?}");
        let password = password.replace("--to-", "--");
        let exported = run(&["export", "--from", &base, "--user", "admin", &password, "--stream", "gone"]);
        let newest = format!("{{\"headwaterExport\":{}", EXPORTS.last().unwrap());
        assert!(exported.starts_with(&newest), "run scripts/fixture and add the version: {exported}");
    }
}

#[test]
fn the_program_names_the_formats_that_it_writes_and_of_each_there_is_a_file() {
    let said = run(&["--version"]);
    assert!(said.starts_with(concat!("headwater ", env!("CARGO_PKG_VERSION"), " (commit ")), "{said}");
    let last = |known: &[u32]| known.last().copied().unwrap();
    let (state, backup, export) = (last(FORMATS), last(BACKUPS), last(EXPORTS));
    let formats =
        format!("formats: log 2, state {state}, backup {backup}, export {export}\ncluster versions: 1 to 2\n");
    assert!(said.ends_with(&formats), "run scripts/fixture and add the format: {said}");
}
