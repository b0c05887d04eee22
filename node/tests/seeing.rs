//! What an operator sees of a running node: slow requests in the log, and `headwater top`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod support;

use support::client;
use support::process::Process;

#[test]
fn a_slow_request_has_a_line_with_its_phases_and_its_id() {
    let data = tempfile::tempdir().unwrap();
    let data_dir = format!("--data-dir={}", data.path().display());
    let (node, base) = Process::start_single(&[&data_dir, "--slow-request-ms=1"]);
    // Hashing a password takes more than a millisecond, however fast the machine.
    let headers = vec![
        ("Authorization", "Basic YWRtaW46Y2hhbmdlaXQ=".to_owned()),
        ("Content-Type", "application/json".to_owned()),
        ("ES-EventType", "placed".to_owned()),
        ("ES-EventId", "11111111-1111-4111-8111-111111111111".to_owned()),
        ("X-Request-Id", "from-the-proxy".to_owned()),
    ];
    let answer = client::send(&base, "POST", "/streams/orders", &headers, b"{}");
    assert_eq!(answer.status, 201);
    let line = node.wait_for(&["slow request", "id=\"from-the-proxy\""]);
    for part in ["method=POST", "path=\"/streams/orders\"", "route=\"append\"", "status=201", "login ", "commit "] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn top_shows_nodes_and_slow_requests_on_a_terminal_and_as_text() {
    let data = tempfile::tempdir().unwrap();
    let data_dir = format!("--data-dir={}", data.path().display());
    let (_node, base) = Process::start_single(&[&data_dir, "--slow-request-ms=1"]);
    let password = data.path().join("password");
    std::fs::write(&password, "changeit").unwrap();
    let password = format!("--password-file={}", password.display());
    let options = ["top", "--url", &base, "--user", "ops", &password, "--interval-s=1"];
    let host = base.trim_start_matches("http://");

    let said = support::process::run(&[&options[..], &["--once"]].concat());
    for word in ["WRITES/S", host, "leader", "/gossip"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let anonymous = support::process::run(&["top", "--url", &base, "--interval-s=1", "--once"]);
    assert!(anonymous.contains("--user"), "{anonymous}");

    let mut screen = Screen::start(&options);
    // Blanks are not drawn, but passed over.
    screen.wait_for("ends");
    screen.wait_for(host);
    screen.press(b"q");
    screen.ended();
}

/// A subcommand on a terminal of its own.
struct Screen {
    child: std::process::Child,
    terminal: std::fs::File,
    shown: Vec<u8>,
}

impl Screen {
    fn start(arguments: &[&str]) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let size = rustix::termios::Winsize { ws_row: 40, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal, size).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let side = || std::fs::OpenOptions::new().read(true).write(true).open(&name).unwrap();
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_headwater"))
            .args(arguments)
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .unwrap();
        Self { child, terminal: terminal.into(), shown: Vec::new() }
    }

    /// Reads what is shown until these words are part of it. The end of the program is an error.
    fn wait_for(&mut self, words: &str) {
        let mut part = [0; 4_096];
        while !String::from_utf8_lossy(&self.shown).contains(words) {
            let read = std::io::Read::read(&mut self.terminal, &mut part);
            let read = read.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.shown)));
            self.shown.extend(&part[..read]);
        }
    }

    fn press(&mut self, keys: &[u8]) {
        std::io::Write::write_all(&mut self.terminal, keys).unwrap();
    }

    /// Waits for the end of the program, which has to be a good one.
    fn ended(&mut self) {
        // What it says at its end has to be taken, or it would wait.
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut self.terminal, &mut rest);
        assert!(self.child.wait().unwrap().success(), "{}", String::from_utf8_lossy(&rest));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
