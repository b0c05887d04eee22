//! A running node takes new values of options that can change, and names those that cannot.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod support;

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use support::client;
use support::nodes::Places;
use support::process::Process;

/// The user ops.
const OPS: (&str, &str) = ("Authorization", "Basic b3BzOmNoYW5nZWl0");

struct Node {
    process: Process,
    base: String,
    file: PathBuf,
}

impl Node {
    /// A node with these options in its file, and others beside it.
    fn start(directory: &Path, text: &str) -> Self {
        let file = directory.join("node.yaml");
        std::fs::write(&file, text).unwrap();
        let places = Places::new(1);
        let mut process = Process::start(&[
            format!("--config={}", file.display()),
            format!("--data-dir={}", directory.join("data").display()),
            format!("--http-listen={}", places.http[0]),
            format!("--raft-listen={}", places.raft[0]),
            "--read-wait-ms=2500".to_owned(),
        ]);
        process.wait_for(&["listening"]);
        assert_eq!(process.exited(), None);
        Self { process, base: format!("http://{}", places.http[0]), file }
    }

    /// Writes new options into the file.
    fn rewrite(&self, text: &str) {
        std::fs::write(&self.file, text).unwrap();
    }

    fn reload(&self) -> client::Answer {
        client::send(&self.base, "POST", "/admin/reloadconfig", &[(OPS.0, OPS.1.to_owned())], b"")
    }

    /// The value of an option that is in force.
    fn value(&self, name: &str) -> String {
        let answer = client::send(&self.base, "GET", "/info/options", &[(OPS.0, OPS.1.to_owned())], b"");
        let options = answer.json();
        let option = options.as_array().unwrap().iter().find(|option| option["name"] == name);
        option.unwrap_or_else(|| panic!("no option {name}"))["value"].as_str().unwrap().to_owned()
    }
}

#[test]
fn options_that_can_change_are_taken_and_the_others_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), "slow_request_ms: 60000\nlog_filter: info\n");
    assert_eq!((node.value("SlowRequestMs").as_str(), node.value("LogFilter").as_str()), ("60000", "info"));

    // Hashing a password takes more than a millisecond, however fast the machine.
    node.rewrite("slow_request_ms: 1\nlog_filter: info,audit=off\nscavenge_window: 22:00-05:30\ndrain_ms: 0\n");
    node.process.signal(Signal::HUP);
    let line = node.process.wait_for(&["options were read again"]);
    for flag in ["--slow-request-ms", "--log-filter", "--scavenge-window", "--drain-ms"] {
        assert!(line.contains(flag), "{flag} is not in {line}");
    }
    assert_eq!(node.value("SlowRequestMs"), "1");
    assert_eq!(node.value("ScavengeWindow"), "22:00-05:30");
    let wrong = [("Authorization", "Basic b3BzOndyb25n".to_owned())];
    assert_eq!(client::send(&node.base, "GET", "/info/options", &wrong, b"").status, 401);
    node.process.wait_for(&["slow request", "status=401", "login "]);
    let told = node.process.log().iter().any(|line| line.contains("a login was refused"));
    assert!(!told, "the filter was not taken");

    node.rewrite("heartbeat_ms: 90\nelection_max_ms: 900\nslow_request_ms: 2\n");
    assert_eq!(node.reload().status, 200);
    let line = node.process.wait_for(&["WARN", "restart it"]);
    assert!(line.contains("options=\"--heartbeat-ms --election-max-ms\""), "{line}");
    assert_eq!((node.value("SlowRequestMs").as_str(), node.value("HeartbeatMs").as_str()), ("2", "100"));
    assert_eq!(client::send(&node.base, "GET", "/info/options", &wrong, b"").status, 401);
    node.process.wait_for(&["a login was refused"]);
    // Flags stay in force, and so does what the file has lost.
    assert_eq!((node.value("ReadWaitMs").as_str(), node.value("DrainMs").as_str()), ("2500", "3000"));
}

#[test]
fn nothing_changes_when_an_option_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), "slow_request_ms: 60000\n");
    node.rewrite("slow_request_ms: 1\nheartbeat_ms: fast\n");
    node.process.signal(Signal::HUP);
    let line = node.process.wait_for(&["ERROR", "the options in force are kept"]);
    assert!(line.contains("'heartbeat_ms'"), "{line}");
    assert_eq!(node.value("SlowRequestMs"), "60000");
    std::fs::remove_file(&node.file).unwrap();
    let answer = node.reload();
    let reason = answer.reason.unwrap_or_default();
    assert!(answer.status == 500 && reason.contains("the options in force are kept"), "{} {reason}", answer.status);
    assert_eq!(node.value("SlowRequestMs"), "60000");
}
