//! The counters of `/metrics` match the writes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::client;
use crate::support::nodes::Nodes;

/// How long a follower may take to apply its leader's log, on a busy machine.
const APPLIED: Duration = Duration::from_secs(20);

/// Every series of a node with its value, without the prefix all names have.
fn series(base: &str) -> BTreeMap<String, f64> {
    let text = client::send(base, "GET", "/metrics", &[], b"").text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("headwater_")?.rsplit_once(' '));
    lines.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

fn append(base: &str, events: usize) {
    let event = || format!(r#"{{"eventId":"{}","eventType":"t","data":{{}}}}"#, uuid::Uuid::new_v4());
    let body = format!("[{}]", (0..events).map(|_| event()).collect::<Vec<_>>().join(","));
    let headers = [
        ("Content-Type", "application/vnd.eventstore.events+json".to_owned()),
        // A login that succeeds shows that the node has created its first users, which are events
        // as well.
        ("Authorization", client::ADMIN.to_owned()),
    ];
    let answer = client::send(base, "POST", "/streams/counted", &headers, body.as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
}

type Figures = BTreeMap<String, BTreeMap<String, f64>>;

/// Figures of all nodes, once each has counted this many entries and events more than `before`.
fn figures_with(before: &Figures, entries: f64, events: f64) -> Figures {
    let started = Instant::now();
    loop {
        let now: Figures = before.keys().map(|base| (base.clone(), series(base))).collect();
        let gained = |base: &str, name: &str| now[base][name] - before[base][name];
        let counts = [("applied_events_total", events), ("committed_entries", entries)];
        if before.keys().all(|base| counts.iter().all(|(name, count)| gained(base, name) >= *count)) {
            return now;
        }
        assert!(
            started.elapsed() < APPLIED,
            "after {APPLIED:?} not {entries} entries and {events} events on every node"
        );
        std::thread::sleep(Duration::from_millis(20)); // polling interval
    }
}

/// What one append on the leader and one on a follower change; nothing is said when another node
/// leads before they are counted, or the leader raises the version of the cluster meanwhile.
fn check_counters(leader: &str, follower: &str, all: &[String]) -> bool {
    let fresh: Figures = all.iter().map(|base| (base.clone(), series(base))).collect();
    append(leader, 1);
    let before = figures_with(&fresh, 1.0, 1.0);
    append(leader, 3);
    append(follower, 2);
    let after = figures_with(&before, 2.0, 5.0);

    let gained = |base: &str, name: &str| after[base][name] - before[base].get(name).copied().unwrap_or_default();
    if all.iter().any(|base| after[base]["leader_changes_total"] > fresh[base]["leader_changes_total"]) {
        return false;
    }
    if all.iter().any(|base| gained(base, "applied_entries_total") > 2.5) {
        return false;
    }
    for base in all {
        let is_leader = base == leader;
        let expected = [
            ("applied_events_total", 5.0),
            ("applied_entries_total", 2.0),
            ("apply_chunk_commands_sum", 2.0),
            ("proposals_total", if is_leader { 2.0 } else { 0.0 }),
            ("proposal_batch_commands_sum", if is_leader { 2.0 } else { 0.0 }),
            ("forwards_received_total", if is_leader { 1.0 } else { 0.0 }),
            ("forwards_sent_total", if base == follower { 1.0 } else { 0.0 }),
            ("unknown_outcomes_total", 0.0),
        ];
        for (name, expected) in expected {
            assert!((gained(base, name) - expected).abs() < 0.5, "{name} of {base}: {}", gained(base, name));
        }
        for moved in ["log_syncs_total", "log_sync_seconds_sum", "log_sync_batch_writes_sum", "log_bytes_total"] {
            assert!(gained(base, moved) > 0.0, "{moved} of {base}");
        }
        assert!(after[base]["leader_changes_total"] >= 1.0, "{base}");
        let lags = after[base].keys().filter(|name| name.starts_with("replication_lag_entries{peer=")).count();
        assert_eq!(lags, if is_leader { 2 } else { 0 }, "the leader, and nobody else, tells of its peers");
    }
    let answered = r#"http_requests_total{route="append",status="201"}"#;
    assert!((gained(follower, answered) - 1.0).abs() < 0.5, "{}", gained(follower, answered));
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_counted_where_they_pass_and_events_on_every_node() {
    // Starved of processors, nodes elect another leader.
    const ATTEMPTS: usize = 5;
    let nodes = Nodes::start(3).await;
    for attempt in 1.. {
        let (leader, follower, all) = (nodes.leader(), nodes.follower(), nodes.all());
        let counted = tokio::task::spawn_blocking(move || check_counters(&leader, &follower, &all)).await.unwrap();
        if counted {
            break;
        }
        assert!(attempt < ATTEMPTS, "something came in between each time");
    }
    nodes.stop().await;
}
