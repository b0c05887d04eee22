//! A service manager hears when a node serves, that it lives, and when it stops.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;
use support::nodes::Places;
use support::process::Process;
use support::{PATIENCE, block_until};

/// Of the watchdog, in microseconds: short, so that the test is.
const WATCHDOG_USEC: &str = "300000";

/// The next message, or `None` when none comes in time.
fn heard(socket: &UnixDatagram, patience: Duration) -> Option<String> {
    let mut message = [0; 1024];
    socket.set_read_timeout(Some(patience)).unwrap();
    let length = socket.recv(&mut message).ok()?;
    Some(String::from_utf8(message[..length].to_vec()).unwrap())
}

#[test]
fn a_service_manager_hears_that_a_node_serves_lives_and_stops() {
    let (data, places) = (tempfile::tempdir().unwrap(), Places::new(1));
    let path = data.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let arguments = [
        "--http-listen".to_owned(),
        places.http[0].clone(),
        "--raft-listen".to_owned(),
        places.raft[0].clone(),
        format!("--data-dir={}", data.path().join("node").display()),
    ];
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", WATCHDOG_USEC)];
    let mut node = Process::start_in(&arguments, &environment);

    block_until("the node says that it serves", || {
        let message = heard(&socket, PATIENCE).expect("nothing was heard of the start");
        assert!(message == "WATCHDOG=1\n" || message.starts_with("READY=1\n"), "{message}");
        message.starts_with("READY=1\n")
    });
    // Who is told that the node serves may send a request.
    let live = support::client::send(&format!("http://{}", places.http[0]), "GET", "/health/live", &[], b"");
    assert_eq!(live.status, 204);
    for _ in 0..5 {
        assert_eq!(heard(&socket, PATIENCE).as_deref(), Some("WATCHDOG=1\n"));
    }

    // A process that does nothing gives no sign of life; what it said before may lie in the socket.
    node.signal(Signal::STOP);
    let late = (0..20).take_while(|_| heard(&socket, Duration::from_secs(1)).is_some()).count();
    assert!(late < 20, "a stopped process says that it lives");
    node.signal(Signal::CONT);
    assert_eq!(heard(&socket, PATIENCE).as_deref(), Some("WATCHDOG=1\n"));

    node.signal(Signal::TERM);
    let mut last = String::new();
    block_until("the node has ended", || {
        while let Some(message) = heard(&socket, Duration::from_millis(10)) {
            if message != "WATCHDOG=1\n" {
                last = message;
            }
        }
        node.exited().is_some()
    });
    assert!(last.lines().any(|line| line == "STOPPING=1"), "{last}");
    assert!(node.log().iter().all(|line| !line.contains("cannot be told")));
}
