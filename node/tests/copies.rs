//! Backups and what is made of them, where something goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod support;

use std::path::Path;
use std::process::Output;

use rustix::process::{Pid, Signal};
use support::nodes::Places;
use support::process::{Process, output, run};
use support::{block_until, client};

const LOGIN: &str = "Basic YWRtaW46Y2hhbmdlaXQ=";

fn append(base: &str, number: u32) -> u16 {
    append_data(base, number, b"{}")
}

fn append_data(base: &str, number: u32, data: &[u8]) -> u16 {
    let headers = [
        ("Authorization", LOGIN.to_owned()),
        ("Content-Type", "application/json".to_owned()),
        ("ES-EventType", "placed".to_owned()),
        ("ES-EventId", format!("11111111-1111-4111-8111-{number:012}")),
    ];
    client::send(base, "POST", "/streams/orders", &headers, data).status
}

fn password(directory: &Path) -> String {
    let file = directory.join("password");
    std::fs::write(&file, "changeit").unwrap();
    format!("--password-file={}", file.display())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn a_node_that_was_killed_before_it_wrote_its_state_is_sound() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data").display().to_string();
    let (node, base) = Process::start_single(&[&format!("--data-dir={data}")]);
    assert_eq!(append(&base, 1), 201);
    node.signal(Signal::KILL);
    drop(node);
    let said = run(&["verify", &data]);
    assert!(said.contains("takes all from the log") && said.contains("nothing is wrong"), "{said}");
    let nothing = output(&["verify", &format!("{data}/none")]);
    assert_eq!(nothing.status.code(), Some(2), "{}", self::said(&nothing));
}

#[test]
fn an_archive_is_compared_with_a_node_and_never_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (_node, base) = Process::start_single(&[&format!("--data-dir={}", at("data"))]);
    assert_eq!(append(&base, 1), 201);
    let password = password(directory.path());
    let backup = |to: &str, more: &[&str]| {
        output(&[&["backup", "--from", &base, "--user", "admin", &password, "--to", to][..], more].concat())
    };
    assert!(backup(&at("first.tar.zst"), &[]).status.success());
    let again = backup(&at("first.tar.zst"), &[]);
    assert!(again.status.code() == Some(1) && said(&again).contains("the file exists"), "{}", said(&again));
    assert_eq!(append(&base, 2), 201);
    assert!(backup(&at("second"), &[]).status.success());
    let since = backup(&at("third.tar"), &["--since", &at("second")]);
    assert!(since.status.success(), "{}", said(&since));

    let against = ["--against", &base, "--user", "admin", &password];
    for what in [&[at("first.tar.zst")][..], &[at("second")], &[at("second"), at("third.tar")]] {
        let what: Vec<&str> = what.iter().map(String::as_str).collect();
        let compared = run(&[&["verify"], &what[..], &against].concat());
        assert!(compared.contains("0 positions differ"), "{what:?}: {compared}");
    }
    // The older one first.
    let wrong = ["restore", "--from", &at("second"), "--from", &at("first.tar.zst"), "--data-dir", &at("restored")];
    let refused = output(&wrong);
    assert!(!refused.status.success() && said(&refused).contains("name the older backup first"), "{}", said(&refused));
    let closed = std::process::Command::new(env!("CARGO_BIN_EXE_headwater"))
        .args(["verify", &at("second")])
        .stdout(closed_pipe())
        .stderr(closed_pipe())
        .status();
    assert!(closed.unwrap().success(), "nobody has to listen");
}

/// The end of a pipe to write to, of which nobody has the other one.
fn closed_pipe() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn nothing_is_left_of_a_backup_that_is_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (_node, base) = Process::start_single(&[&format!("--data-dir={}", at("data"))]);
    // What cannot be compressed takes seconds at the lowest rate.
    let mut state = 1_u32;
    let mut digit = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_digit(state >> 28, 16).unwrap()
    };
    for number in 0..20 {
        let data: String = (0..60_000).map(|_| digit()).collect();
        assert_eq!(append_data(&base, number, format!("\"{data}\"").as_bytes()), 201);
    }
    let password = password(directory.path());
    let backup = ["backup", "--from", &base, "--user", "admin", &password, "--to", &at("slow")];
    let slowly = [&backup[..], &["--bytes-per-second=1"]].concat();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_headwater"))
        .args(slowly)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    block_until("the backup is under way", || Path::new(&at("slow")).join("state").exists());
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let left = std::fs::read_dir(at("slow")).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(left, 0, "a further attempt may use the name");
}

#[test]
fn a_filter_that_is_misspelt_exports_nothing() {
    for filter in ["contxt=streamid&type=prefix&data=s-", "nonsense", ""] {
        let refused = output(&["export", "--filter", filter]);
        assert_eq!(refused.status.code(), Some(2), "{filter}: {}", said(&refused));
    }
}

#[test]
fn of_two_servers_that_were_restored_for_one_list_neither_serves() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backup-1.tar.zst").display().to_string();
    let places = Places::new(3);
    let start = |server: &str| {
        let (server_id, data) = (format!("--server-id={server}"), format!("--data-dir={}", at(server)));
        Process::start(&[server_id, data, format!("--members={}", places.members())])
    };
    for server in ["1", "2"] {
        run(&["restore", "--from", &archive, "--data-dir", &at(server), "--server-id", server]);
    }
    let (first, second) = (start("1"), start("2"));
    for node in [&first, &second] {
        node.wait_for(&["holds data of another cluster, so neither serves"]);
        node.wait_for(&["listening"]);
    }
    let base = |server: usize| format!("http://{}", places.http[server - 1]);
    for server in [1, 2] {
        assert_eq!(client::send(&base(server), "GET", "/health/ready", &[], b"").status, 503);
        assert_eq!(append(&base(server), 7), 503);
    }
    // As the message says.
    second.signal(Signal::TERM);
    second.wait_for(&["stopped"]);
    drop(second);
    std::fs::remove_dir_all(at("2")).unwrap();
    let (second, third) = (start("2"), start("3"));
    for node in [&second, &third] {
        node.wait_for(&["listening"]);
    }
    block_until("all serve", || {
        (1..=3).all(|server| client::send(&base(server), "GET", "/health/ready", &[], b"").status == 204)
    });
    assert_eq!(append(&base(2), 7), 201);
}
