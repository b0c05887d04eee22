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

/// Appends what cannot be compressed, and takes seconds at the lowest rate of a backup.
fn fill(base: &str) {
    let mut state = 1_u32;
    let mut digit = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_digit(state >> 28, 16).unwrap()
    };
    for number in 0..20 {
        let data: String = (0..60_000).map(|_| digit()).collect();
        assert_eq!(append_data(base, number, format!("\"{data}\"").as_bytes()), 201);
    }
}

/// Starts a backup at the lowest rate.
fn slow_backup(base: &str, password: &str, to: &str) -> std::process::Child {
    std::process::Command::new(env!("CARGO_BIN_EXE_headwater"))
        .args(["backup", "--from", base, "--user", "admin", password, "--to", to, "--bytes-per-second=1"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn nothing_is_left_of_a_backup_that_is_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (_node, base) = Process::start_single(&[&format!("--data-dir={}", at("data"))]);
    fill(&base);
    let password = password(directory.path());
    let mut child = slow_backup(&base, &password, &at("slow"));
    block_until("the backup is under way", || Path::new(&at("slow")).join("state").exists());
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!Path::new(&at("slow")).exists(), "nothing is left");
}

#[test]
fn a_backup_takes_the_place_of_one_that_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let backups = directory.path().join("backups");
    std::fs::create_dir(&backups).unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (_node, base) = Process::start_single(&[&format!("--data-dir={}", at("data"))]);
    fill(&base);
    let password = password(directory.path());
    for (name, part) in [("b.tar.zst", "b.tar.zst.headwater-part"), ("b", "b/backup.json.headwater-part")] {
        let to = backups.join(name).display().to_string();
        let mut child = slow_backup(&base, &password, &to);
        block_until("the backup is under way", || {
            let state = backups.join(name).join("state");
            backups.join(part).exists()
                && (name != "b" || state.read_dir().is_ok_and(|mut files| files.next().is_some()))
        });
        let backup = ["backup", "--from", &base, "--user", "admin", &password, "--to", &to];
        let refused = output(&backup);
        assert!(said(&refused).contains("another process is writing this file"), "{}", said(&refused));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(backups.join(part).exists());
        // The node notices with its next write that the receiver has gone.
        block_until("the next backup succeeds", || {
            let done = output(&backup);
            assert!(done.status.success() || said(&done).contains("409"), "{}", said(&done));
            done.status.success()
        });
        assert!(run(&["verify", &to]).contains("nothing is wrong"));
    }
    assert_eq!(names(&backups), ["b", "b.tar.zst"]);
    assert_eq!(names(&backups.join("b")), ["backup.json", "state"]);
}

#[test]
fn a_node_that_does_not_answer_and_a_scavenge_that_does_not_run_are_told() {
    let nobody = Places::new(1);
    let url = format!("http://{}", nobody.http[0]);
    let unreachable = output(&["export", "--from", &url, "--retry-s=1"]);
    let said_once = said(&unreachable);
    assert_eq!(unreachable.status.code(), Some(1));
    assert_eq!(said_once.matches("trying again for 1 s").count(), 1, "{said_once}");
    assert_eq!(said_once.matches(&format!("cannot connect to {url}")).count(), 2, "{said_once}");

    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data").display().to_string();
    let (_node, base) = Process::start_single(&[&format!("--data-dir={data}")]);
    let id = "5f1f7c38-6f5b-4a0b-8a4c-0d6c9a6b7a11";
    let stop = ["scavenge", "--stop", id, "--url", &base, "--user", "admin", &password(directory.path())];
    let refused = output(&stop);
    let told = said(&refused);
    assert!(refused.status.code() == Some(1) && told.contains(&format!("no scavenge {id} is running")), "{told}");
    for options in [&["backup", "--to=x", "--bytes-per-second=0"][..], &["--scavenge-bytes-per-second=0"]] {
        let refused = output(options);
        assert!(refused.status.code() == Some(2) && said(&refused).contains("never end"), "{}", said(&refused));
    }
}

#[test]
fn a_disk_that_is_full_is_named_by_the_file_that_could_not_be_written() {
    // A file system of its own would need rights; a file that takes nothing does not.
    let directory = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backup-1.tar.zst").display().to_string();
    let data = directory.path().join("data").display().to_string();
    let limited =
        format!("ulimit -f 1; exec {} restore --from {fixture} --data-dir {data}", env!("CARGO_BIN_EXE_headwater"));
    let refused = std::process::Command::new("sh").args(["-c", &format!("trap '' XFSZ; {limited}")]).output().unwrap();
    let told = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("{data}/state/1/")) && !told.contains(".tar.zst:"), "{told}");
    assert!(!Path::new(&data).exists(), "nothing is left");
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
