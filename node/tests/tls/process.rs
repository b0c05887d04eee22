//! What an operator sees: the binary, its files, its signals and its log.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::process::Signal;

use super::client::{Connection, connect};
use super::support::PATIENCE;
use super::support::client::tls::Version;
use super::support::nodes::Places;
use super::support::process::{Process, output, run};
use super::support::secrets;

/// The log holds no line of the keys below this directory.
fn assert_no_key_in_log(node: &Process, certs: &Path) {
    let keys = secrets::of_keys_below(certs);
    assert!(keys.len() >= 2, "there are no keys");
    assert_eq!(secrets::found(node.log().iter().map(String::as_str), &keys), None);
}

fn node_arguments(places: &Places, certs: &Path, data: &Path) -> Vec<String> {
    let file = |flag: &str, name: &str| format!("{flag}={}", certs.join(name).display());
    vec![
        format!("--members={}", places.members()),
        format!("--data-dir={}", data.display()),
        file("--tls-cert-file", "server-1.crt"),
        file("--tls-key-file", "server-1.key"),
        file("--tls-ca-file", "ca.crt"),
    ]
}

async fn connected(address: &str, ca_pem: &str) -> Connection {
    let started = Instant::now();
    loop {
        match connect(address, ca_pem, Version::Http1).await {
            Ok(connection) => return connection,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await; // polling interval
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificates_are_taken_on_sighup_and_bad_ones_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    let places = Places::new(1);
    let dir = format!("--dir={}", certs.display());
    let said = run(&["certs", "create", &format!("--members={}", places.members()), &dir, "--days=20"]);
    assert!(said.contains("--tls-ca-file"), "{said}");
    let ca_pem = std::fs::read_to_string(certs.join("ca.crt")).unwrap();
    let mut arguments = node_arguments(&places, &certs, &directory.path().join("data"));
    arguments.push("--log-filter=debug,headwater=trace,openraft=error".to_owned());
    let node = Process::start(&arguments);
    node.wait_for(&["WARN", "server-1.crt", "expires soon"]);
    node.wait_for(&["recovered"]);

    let mut kept = connected(&places.http[0], &ca_pem).await;
    let before = kept.certificate.clone();
    assert_eq!(kept.append("s").await.unwrap().status, 201);

    run(&["certs", "renew", "--server-id=1", &dir]);
    node.signal(Signal::HUP);
    node.wait_for(&["loaded the certificates again", "server-1.crt"]);
    assert_ne!(connected(&places.http[0], &ca_pem).await.certificate, before);
    assert_eq!(kept.append("s").await.expect("the connection was dropped").status, 201);

    let renewed = connected(&places.http[0], &ca_pem).await.certificate;
    std::fs::write(certs.join("server-1.crt"), "nonsense").unwrap();
    node.signal(Signal::HUP);
    let line = node.wait_for(&["ERROR", "are kept"]);
    assert!(line.contains("server-1.crt") && line.contains("not valid PEM"), "{line}");
    assert_eq!(connected(&places.http[0], &ca_pem).await.certificate, renewed);
    assert_eq!(kept.append("s").await.expect("the connection was dropped").status, 201);
    assert_no_key_in_log(&node, &certs);
}

#[test]
fn a_node_does_not_start_with_files_it_cannot_use_and_names_them() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    let places = Places::new(1);
    run(&["certs", "create", &format!("--members={}", places.members()), &format!("--dir={}", certs.display())]);
    std::fs::remove_file(certs.join("server-1.key")).unwrap();
    let mut arguments = node_arguments(&places, &certs, &directory.path().join("data"));
    let ended = output(&arguments);
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("server-1.key cannot be used as private key: it cannot be read: No such file"), "{said}");
    assert_eq!(said.matches("cannot be used as private key").count(), 1, "told once: {said}");
    // With the log switched off an operator still learns why there is no node.
    arguments.push("--log-filter=off".to_owned());
    let said = String::from_utf8(output(&arguments).stderr).unwrap();
    assert!(said.starts_with("headwater: ") && said.lines().count() == 1, "{said}");
    assert!(said.contains("cannot be used as private key"), "{said}");
    assert!(!directory.path().join("data").exists(), "nothing was touched");
}

/// All that lies below a directory and that another user could look at, and how much there is.
fn open_below(directory: &Path) -> (Vec<String>, usize) {
    let (mut open, mut seen, mut left) = (Vec::new(), 0, vec![directory.to_owned()]);
    while let Some(path) = left.pop() {
        // Files come and go while a node runs.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        seen += 1;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            open.push(format!("{mode:o} {}", path.display()));
        }
        if metadata.is_dir() {
            left.extend(std::fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().path()));
        }
    }
    (open, seen)
}

#[test]
fn the_data_directory_is_for_the_user_of_the_node_alone_whatever_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let option = format!("--data-dir={}", data.display());
    // A snapshot as soon as can be.
    let options = [option.as_str(), "--snapshot-interval-s=1"];
    for _ in 0..2 {
        let (node, base) = Process::start_single(&options);
        for _ in 0..20 {
            let id = ("ES-EventId", uuid::Uuid::new_v4().to_string());
            let headers = [("Content-Type", "application/json".into()), ("ES-EventType", "t".into()), id];
            assert_eq!(super::support::client::send(&base, "POST", "/streams/s", &headers, b"{}").status, 201);
        }
        super::support::block_until("there is a snapshot", || {
            std::fs::read_dir(data.join("snapshots")).is_ok_and(|found| found.count() > 0)
        });
        let (open, seen) = open_below(&data);
        assert!(open.is_empty() && seen > 10, "{seen} files, open: {open:?}");
        drop(node);
        // As an older version left it.
        let mut left = vec![data.clone()];
        while let Some(path) = left.pop() {
            let is_directory = path.is_dir();
            let mode = if is_directory { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            if is_directory {
                left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }
}

#[test]
fn sighup_without_tls_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places::new(1);
    let data = format!("--data-dir={}", directory.path().display());
    let mut node = Process::start(&[format!("--members={}", places.members()), data]);
    node.wait_for(&["recovered"]);
    node.signal(Signal::HUP);
    node.wait_for(&["SIGHUP"]);
    assert!(node.exited().is_none(), "the node ended");
}
