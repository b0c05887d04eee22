//! `headwater config --check`: it finds what a start would refuse, without a start.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::client;
use support::nodes::Places;
use support::process::{Process, output, run};

/// What a check says, and its exit code.
fn said(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn check(options: &[impl AsRef<str>]) -> (i32, String) {
    let all: Vec<&str> = ["config", "--check"].into_iter().chain(options.iter().map(AsRef::as_ref)).collect();
    said(&output(&all))
}

/// Checks, and expects this exit code and these words in what is said.
fn expect(code: i32, options: &[impl AsRef<str>], words: &[&str]) {
    let (found, text) = check(options);
    assert_eq!(found, code, "{text}");
    for words in words {
        assert!(text.contains(words), "'{words}' is not in:\n{text}");
    }
}

/// The options of a single node on free ports.
fn options(places: &Places, data: &Path) -> Vec<String> {
    vec![
        format!("--http-listen={}", places.http[0]),
        format!("--raft-listen={}", places.raft[0]),
        format!("--data-dir={}", data.display()),
    ]
}

fn with(options: &[String], further: &[&str]) -> Vec<String> {
    options.iter().cloned().chain(further.iter().map(|&option| option.to_owned())).collect()
}

#[test]
fn what_a_node_takes_is_said_to_be_right_and_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data/of/this/node");
    let options = options(&Places::new(1), &data);
    expect(0, &options, &["a node would start with these options"]);
    assert!(!directory.path().join("data").exists(), "a directory was made");
    // Each of these would not keep a node from starting.
    let file = directory.path().join("node.yaml");
    fs::write(&file, "default_ops_password: second\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let further = ["--default-admin-password=first", &format!("--config={}", file.display())];
    let warned = ["warning: --default-admin-password stands on the command line", "HEADWATER_DEFAULT_ADMIN_PASSWORD"];
    expect(0, &with(&options, &further), &warned);
    expect(0, &with(&options, &further), &["can read 'default_ops_password'", "chmod 600", "warnings: 2"]);
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    expect(0, &with(&options, &further), &["warnings: 1"]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.yaml");
    fs::write(&file, "heartbeat_ms: fast\nserver-id: 1\nmembers: 3\n").unwrap();
    let config = format!("--config={}", file.display());
    expect(2, &[&config], &["'heartbeat_ms'", "did you mean server_id?", "'members'"]);
    let contradictions = ["--rejoin", "--heartbeat-ms=300", "--leader-wait-ms=9000", "--keep-log-bytes=5GiB"];
    expect(2, &contradictions, &["--rejoin", "--heartbeat-ms 300", "--leader-wait-ms 9000", "--keep-log-bytes"]);
    expect(2, &["--tls-cert-file=c", "--log-filter=a=loud"], &["--tls-key-file", "--log-filter 'a=loud'"]);
    // A node refuses the same in the same words.
    let (_, told) = said(&output(&contradictions));
    assert_eq!(check(&contradictions).1, told);
}

/// What `--json` prints, and the exit code.
fn document(options: &[impl AsRef<str>]) -> (i32, Value) {
    let all: Vec<&str> = ["config", "--check", "--json"].into_iter().chain(options.iter().map(AsRef::as_ref)).collect();
    let output = output(&all);
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn programs_get_the_findings_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(&Places::new(1), &directory.path().join("data"));
    let (code, found) = document(&with(&options, &["--default-admin-password=first"]));
    assert_eq!((code, &found["wouldStart"], &found["exitCode"]), (0, &true.into(), &0.into()), "{found}");
    let warning = found["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("--default-admin-password stands on the command line"), "{warning}");
    assert_eq!((&found["errors"], &found["notes"]), (&json!([]), &json!([])));

    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, found) = document(&with(&options[..2], &[&format!("--data-dir={}", file.display())]));
    assert_eq!((code, &found["wouldStart"], &found["exitCode"]), (1, &false.into(), &1.into()), "{found}");
    assert_eq!(found["errors"][0], format!("{} is not a directory: change --data-dir", file.display()));

    // So do options that no node takes, from the file and against each other.
    fs::write(&file, "heartbeat_ms: fast\nserver-id: 1\n").unwrap();
    for (options, errors) in [(vec![format!("--config={}", file.display())], 2), (vec!["--rejoin".to_owned()], 1)] {
        let (code, found) = document(&options);
        assert_eq!((code, &found["wouldStart"], &found["exitCode"]), (2, &false.into(), &2.into()), "{found}");
        assert_eq!(found["errors"].as_array().unwrap().len(), errors, "{found}");
    }
    let (code, text) = said(&output(&["config", "--json"]));
    assert!(code == 2 && text.contains("--check"), "{code} {text}");
}

/// Names, sizes and times of change of everything below a directory, but for what a running node
/// writes by itself.
fn listing(root: &Path) -> BTreeMap<String, (u64, std::time::SystemTime)> {
    let (mut found, mut left) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = left.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path.display().to_string(), (metadata.len(), metadata.modified().unwrap()));
    }
    found
}

#[test]
fn a_running_node_is_not_disturbed_and_foreign_data_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let options = options(&Places::new(1), &data);
    let mut node = Process::start(&options);
    node.wait_for(&["listening"]);
    expect(0, &options, &["note: a node runs on", "(process ", "there is no snapshot yet", "a node would start"]);
    expect(1, &with(&options, &["--server-id=2"]), &["this disk belongs to server 1", "correct server-id"]);
    assert_eq!(node.exited(), None, "the check ended the node");
    let base = options[0].replace("--http-listen=", "http://");
    assert_eq!(client::send(&base, "GET", "/health/live", &[], b"").status, 204);
    drop(node);

    let before = listing(&data);
    expect(0, &options, &["a node would start"]);
    assert_eq!(listing(&data), before, "the check changed something");
    fs::rename(data.join("log/durable-end"), data.join("log/elsewhere")).unwrap();
    expect(74, &options, &["the log of this node is missing", "--rejoin"]);
    fs::rename(data.join("log/elsewhere"), data.join("log/durable-end")).unwrap();
    fs::write(data.join("identity"), "nonsense").unwrap();
    expect(74, &options, &["identity is damaged"]);
    fs::remove_file(data.join("identity")).unwrap();
    expect(74, &options, &["identity is missing although the directory holds data"]);
}

#[test]
fn the_members_of_a_snapshot_are_compared_with_the_list() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let places = Places::new(3);
    let alone = options(&places, &data);
    let node = Process::start(&with(&alone, &["--snapshot-interval-s=1"]));
    node.has_said(&["listening"]);
    let base = format!("http://{}", places.http[0]);
    let headers = [("Content-Type", "application/json".into()), ("ES-EventType", "t".into())];
    let id = ("ES-EventId", uuid::Uuid::new_v4().to_string());
    let headers: Vec<_> = headers.into_iter().chain([id]).collect();
    assert_eq!(client::send(&base, "POST", "/streams/s", &headers, b"{}").status, 201);
    support::block_until("there is a snapshot", || {
        fs::read_dir(data.join("snapshots"))
            .is_ok_and(|found| found.flatten().any(|entry| !entry.file_name().to_string_lossy().starts_with('.')))
    });
    drop(node);
    expect(0, &alone, &["a node would start with these options\n"]);
    let three = with(&alone, &[&format!("--members={}", places.members())]);
    expect(0, &three, &["warning: unless the members were changed", "other servers (1)", "names (1, 2, 3)"]);
}

#[test]
fn ports_directories_and_names_that_cannot_be_used_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places::new(2);
    let options = options(&places, &directory.path().join("data"));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("--raft-listen={}", other.local_addr().unwrap());
    let both = [taken.as_str(), "--http-listen=192.0.2.1:2113"];
    expect(1, &both, &["cannot listen on 192.0.2.1:2113", "change --http-listen", "change --raft-listen", "errors: 2"]);

    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("data")] {
        let data = format!("--data-dir={}", path.display());
        expect(1, &[&options[0], &options[1], &data], &["file is not a directory: change --data-dir"]);
    }

    let members = format!("--members={},3=name.invalid:1/name.invalid:2", places.members());
    expect(0, &with(&options, &[&members]), &["warning: the address name.invalid:1", "name.invalid:2", "warnings: 2"]);
}

#[test]
fn certificates_that_cannot_be_used_and_those_that_expire_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    let places = Places::new(2);
    let members = format!("--members={}", places.members());
    run(&["certs", "create", &members, &format!("--dir={}", certs.display()), "--days=20"]);
    let option = |flag: &str, name: &str| format!("{flag}={}", certs.join(name).display());
    let mut options = with(&options(&places, &directory.path().join("data")), &[&members]);
    options.extend([option("--tls-ca-file", "ca.crt"), option("--tls-cert-file", "server-1.crt")]);
    let right = with(&options, &[&option("--tls-key-file", "server-1.key")]);
    expect(0, &right, &["server-1.crt: a certificate expires on", "warnings: 1"]);
    fs::set_permissions(certs.join("server-1.key"), Permissions::from_mode(0o644)).unwrap();
    expect(0, &right, &["may read the private key", "chmod 600", "warnings: 2"]);

    let wrong_key = with(&options, &[&option("--tls-key-file", "server-2.key")]);
    expect(1, &wrong_key, &["server-2.key cannot be used as private key", "does not belong to the certificate"]);
    let other_server = with(&right, &["--server-id=2"]);
    expect(1, &other_server, &["server-1.crt cannot be used as certificate for other nodes", "it lacks the name"]);
    fs::write(certs.join("ca.crt"), "nonsense").unwrap();
    let for_nodes = [option("--node-tls-cert-file", "server-1.crt"), option("--node-tls-key-file", "server-1.key")];
    let both = with(&wrong_key, &[&for_nodes[0], &for_nodes[1]]);
    expect(1, &both, &["server-2.key", "ca.crt cannot be used as CA certificate", "errors: 2"]);
    fs::write(certs.join("server-1.crt"), "nonsense").unwrap();
    expect(1, &right, &["server-1.crt cannot be used as certificate for clients: it is not valid PEM"]);
}

#[test]
fn the_limit_of_open_files_is_compared_with_what_a_node_needs() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(&Places::new(1), directory.path()).join(" ");
    let within = |files: u32| {
        let command = format!("ulimit -n {files}; exec {} config --check {options}", env!("CARGO_BIN_EXE_headwater"));
        said(&Command::new("sh").args(["-c", &command]).output().unwrap())
    };
    let (code, text) = within(200);
    assert!(code == 1 && text.contains("may open only 200 files"), "{code} {text}");
    let (code, text) = within(1_024);
    assert!(code == 0 && text.contains("warning: the limit of open files is low"), "{code} {text}");
}
