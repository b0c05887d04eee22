//! The stream API as a table: `cases.txt` holds requests and the expected answers, case by case.
//! The cases run against a single node and against a follower of three.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken assumption is a failed test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests may wait")]

mod access;
mod bad_input;
mod cluster;
mod consumers;
mod extensions;
mod feeds;
mod half_closed;
mod kept_pages;
mod links;
mod long_polls;
mod members;
mod metrics;
mod operate;
mod origins;
mod requests;
mod scavenge;
mod script;
#[path = "../support/mod.rs"]
mod support;
mod versions;

use std::io::Read as _;
use std::time::{Duration, Instant};

use script::Runner;
use support::client::tls::Version;
use support::client::{self, Answer};
use support::nodes::Nodes;
use support::pki::Pki;

const OCTETS: &str = "application/octet-stream";

/// The tables, and how many cases each has at least; fewer mean that the file is not parsed as
/// intended. Users and access lists come last, because `$settings` applies to every stream.
const TABLES: &[(&str, usize)] = &[
    (include_str!("cases.txt"), 95),
    (include_str!("cases-rules.txt"), 26),
    (include_str!("cases-routes.txt"), 34),
    (include_str!("cases-writes.txt"), 35),
    (include_str!("cases-pages.txt"), 27),
    (include_str!("cases-all.txt"), 12),
    (include_str!("extensions.txt"), 17),
    (include_str!("node-cases.txt"), 7),
    (include_str!("access-cases.txt"), 45),
];

/// Runs all tables against a node and reports every case that fails.
fn run(base: &str) {
    run_all(base, &all_cases());
}

fn all_cases() -> Vec<script::Case> {
    let mut cases = Vec::new();
    for (table, at_least) in TABLES {
        let found = script::parse(table);
        assert!(found.len() >= *at_least, "only {} cases", found.len());
        cases.extend(found);
    }
    cases
}

fn run_all(base: &str, cases: &[script::Case]) {
    let failures: Vec<String> = cases.iter().filter_map(|case| Runner::new(base, case).run().err()).collect();
    assert!(failures.is_empty(), "{} of {} cases fail\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// Starts a single node that talks TLS with clients alone. [`client::send`] reaches it in this
/// version of HTTP.
async fn start_with_tls(version: Version) -> Nodes {
    let pki = Pki::new();
    pki.issue(1);
    let [certificate, key, _] = pki.options();
    let nodes = Nodes::start_with_options(1, &[certificate, key]).await;
    client::tls::trust(&nodes.places.http[0], pki.ca_pem(), version);
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_holds_on_a_single_node() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    tokio::task::spawn_blocking(move || run(&base)).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_holds_on_a_follower() {
    let nodes = Nodes::start(3).await;
    let base = nodes.follower();
    tokio::task::spawn_blocking(move || run(&base)).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_holds_with_tls_over_both_versions_of_http() {
    for version in [Version::Http1, Version::Http2] {
        let nodes = start_with_tls(version).await;
        let base = nodes.leader();
        let mut cases = all_cases();
        if version == Version::Http2 {
            // An invalid target is a matter of the request line, which HTTP/2 does not have.
            cases.retain(|case| !case.has_target_with_space());
        }
        tokio::task::spawn_blocking(move || run_all(&base, &cases)).await.unwrap();
        nodes.stop().await;
    }
}

fn long_poll(base: &str, stream: &str, from: u64, seconds: u64) -> Answer {
    let headers = [("Accept", "application/vnd.eventstore.atom+json".to_owned()), ("ES-LongPoll", seconds.to_string())];
    client::send(base, "GET", &format!("/streams/{stream}/{from}/forward/5"), &headers, b"")
}

fn append_bytes(base: &str, stream: &str, body: &[u8]) -> Answer {
    let headers = [
        ("Content-Type", "application/octet-stream".to_owned()),
        ("ES-EventType", "t".to_owned()),
        ("ES-EventId", uuid::Uuid::new_v4().to_string()),
    ];
    client::send(base, "POST", &format!("/streams/{stream}"), &headers, body)
}

/// contract/streams A121, A122.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_ends_with_an_event_or_with_its_time() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let polls = move || {
        assert_eq!(append_bytes(&base, "polled", b"x").status, 201);
        let started = Instant::now();
        let idle = long_poll(&base, "polled", 1, 1);
        assert_eq!((idle.status, idle.json()["entries"].as_array().unwrap().len()), (200, 0));
        assert!(started.elapsed() >= Duration::from_millis(900), "nothing happened, and yet it did not wait");

        let started = Instant::now();
        let waiting = std::thread::spawn({
            let base = base.clone();
            move || long_poll(&base, "polled", 1, 30)
        });
        // Whether the poll waits already or begins after the append: it has the event, and long
        // before its time is up.
        assert_eq!(append_bytes(&base, "polled", b"x").status, 201);
        let woken = waiting.join().unwrap();
        assert_eq!((woken.status, woken.json()["entries"][0]["title"].as_str()), (200, Some("1@polled")));
        assert!(started.elapsed() < Duration::from_secs(20), "the append did not wake the poll");
    };
    tokio::task::spawn_blocking(polls).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_large_events_have_all_of_them() {
    pages_of_large_events(Nodes::start(1).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_large_events_have_all_of_them_over_http_2() {
    pages_of_large_events(start_with_tls(Version::Http2).await).await;
}

async fn pages_of_large_events(nodes: Nodes) {
    const EVENTS: u64 = 7;
    let base = nodes.leader();
    let read = move || {
        let large = vec![b'x'; 4 * 1024 * 1024];
        for _ in 0..EVENTS {
            assert_eq!(append_bytes(&base, "large", &large).status, 201);
        }
        // A50: beyond the limit nothing is stored.
        let too_large = vec![b'x'; 4 * 1024 * 1024 + 10];
        let refused = append_bytes(&base, "large", &too_large);
        assert_eq!((refused.status, refused.reason.as_deref()), (413, Some("Too large events received. Limit is 4mb")));
        let newest_first: Vec<String> = (0..EVENTS).rev().map(|number| format!("{number}@large")).collect();
        let start = "0".repeat(32);
        let pages = [
            "/streams/large/head/backward/100".to_owned(),
            "/streams/large/0/forward/100".to_owned(),
            "/streams/%24all/head/backward/100".to_owned(),
            format!("/streams/%24all/{start}/forward/100"),
        ];
        for path in pages {
            // A document without bodies is short, however large the events are.
            let page = get(&base, &path, &[]);
            assert_eq!(page.header("content-length"), Some(page.body.len().to_string()), "{path}");
            assert_eq!(titles(&page, "large"), newest_first, "{path}");
            // A document with bodies comes in parts, plain or compressed, with the same entries.
            let path = format!("{path}?embed=tryharder");
            let page = get(&base, &path, &[]);
            assert_eq!(page.header("content-length"), None, "{path}");
            assert_eq!(titles(&page, "large"), newest_first, "{path}");
            let entries = page.json()["entries"].as_array().unwrap().clone();
            let of_stream = entries.iter().filter(|entry| entry["streamId"] == "large");
            assert!(of_stream.map(|entry| entry["data"].as_str().unwrap().len()).all(|len| len == large.len()));
            let coded = get(&base, &path, &[("Accept-Encoding", "gzip".to_owned())]);
            assert_eq!(coded.header("content-encoding").as_deref(), Some("gzip"), "{path}");
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&coded.body[..]).read_to_end(&mut plain).unwrap();
            assert!(plain == page.body, "{path}");
        }
        // Shared caches may keep an old page of a public stream, whoever the caller
        // (contract/streams 8.7), unless a link on it may resolve to another stream.
        let cached = |path: &str| get(&base, path, &[]).header("cache-control").unwrap();
        assert_eq!(cached("/streams/large/0/forward/3?embed=tryharder"), "max-age=31536000, public");
        let link = [
            ("Content-Type", "application/json".to_owned()),
            ("ES-EventType", "$>".to_owned()),
            ("ES-EventId", uuid::Uuid::new_v4().to_string()),
        ];
        assert_eq!(client::send(&base, "POST", "/streams/large", &link, b"0@large").status, 201);
        assert_eq!(append_bytes(&base, "large", &large).status, 201);
        let with_link = format!("/streams/large/{}/forward/2?embed=tryharder", EVENTS - 1);
        assert_eq!(cached(&with_link), "max-age=31536000, private");
        let event = client::send(&base, "GET", "/streams/large/3", &[("Accept", OCTETS.to_owned())], b"");
        assert_eq!(event.header("content-length"), Some(large.len().to_string()));
        assert!(event.body == large);
    };
    tokio::task::spawn_blocking(read).await.unwrap();
    nodes.stop().await;

    fn get(base: &str, path: &str, headers: &[(&str, String)]) -> Answer {
        let accept = ("Accept", "application/vnd.eventstore.atom+json".to_owned());
        // The log of all events is for administrators.
        let login = ("Authorization", client::ADMIN.to_owned());
        let headers: Vec<_> = headers.iter().cloned().chain([accept, login]).collect();
        let page = client::send(base, "GET", path, &headers, b"");
        assert_eq!(page.status, 200, "{path}");
        page
    }

    /// Titles of the events of `stream` on a page.
    fn titles(page: &Answer, stream: &str) -> Vec<String> {
        let page = page.json();
        let titles = page["entries"].as_array().unwrap().iter().filter_map(|entry| entry["title"].as_str());
        titles.filter(|title| title.ends_with(&format!("@{stream}"))).map(str::to_owned).collect()
    }
}
