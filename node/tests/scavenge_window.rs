//! The runs that the leader starts by itself keep to the hours of `--scavenge-window`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;
use support::process::Process;
use support::{block_until, client};

const ADMIN: &str = "Basic YWRtaW46Y2hhbmdlaXQ=";

fn send(base: &str, method: &str, path: &str, headers: &[(&'static str, &str)], body: &[u8]) -> client::Answer {
    let headers: Vec<(&str, String)> = [("Authorization", ADMIN), ("Content-Type", "application/json")]
        .iter()
        .chain(headers)
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    client::send(base, method, path, &headers, body)
}

fn run(base: &str, which: &str) -> Value {
    let answer = send(base, "GET", &format!("/admin/scavenge/{which}"), &[], b"");
    assert_eq!(answer.status, 200);
    answer.json()
}

/// From so many hours after this one, for an hour, UTC.
fn window(from: u64) -> String {
    let hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3_600;
    format!("--scavenge-window={:02}:00-{:02}:00", (hour + from) % 24, (hour + from + 1) % 24)
}

#[test]
fn a_run_of_the_leader_rests_outside_its_hours_until_a_person_starts_it() {
    let data = tempfile::tempdir().unwrap();
    let data_dir = format!("--data-dir={}", data.path().display());
    // One byte a second: this run does not come to its end.
    let hours = "--scavenge-window=00:00-23:59";
    let options = [&data_dir, "--scavenge-interval-s=1", "--scavenge-bytes-per-second=1", hours];
    let (node, base) = Process::start_single(&options);
    for number in 0..3 {
        let id = format!("11111111-1111-4111-8111-11111111111{number}");
        let headers = [("ES-EventType", "placed"), ("ES-EventId", id.as_str())];
        assert_eq!(send(&base, "POST", "/streams/orders", &headers, b"{}").status, 201);
    }
    assert_eq!(send(&base, "DELETE", "/streams/orders", &[], b"").status, 204);
    block_until("the leader starts a run", || run(&base, "current")["scavengeId"] != "-");
    let id = run(&base, "current")["scavengeId"].clone();
    node.signal(Signal::TERM);
    node.wait_for(&["stopped"]);
    drop(node);

    let (node, base) = Process::start_single(&[&data_dir, "--scavenge-interval-s=1", &window(2)]);
    // Before or after its port opens.
    node.has_said(&["the scavenge rests", id.as_str().unwrap()]);
    assert_eq!((&run(&base, "current")["scavengeId"], &run(&base, "current")["state"]), (&id, &"Running".into()));
    let started = send(&base, "POST", "/admin/scavenge", &[], b"");
    assert_eq!((started.status, &started.json()["scavengeId"]), (200, &id), "it goes on");
    block_until("the run comes to its end", || run(&base, "last")["state"] == "Success");
    assert_eq!(run(&base, "last")["scavengeId"], id);
}
