//! The log says which requests took long, and where their time went.

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
