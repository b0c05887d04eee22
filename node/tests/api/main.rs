//! The stream API as a table: `cases.txt` holds requests and what must come back, case by case; they run against a
//! single node and against a follower of three.

// Clippy knows `#[test]` functions as tests, but not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod extensions;
mod nodes;
mod script;

use std::time::{Duration, Instant};

use client::Answer;
use script::Runner;

/// The tables, and how many cases each has at least; fewer mean that the file is not read as it is meant.
const TABLES: &[(&str, usize)] = &[(include_str!("cases.txt"), 95), (include_str!("extensions.txt"), 17)];

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_holds_on_a_single_node() {
    let nodes = nodes::start(1).await;
    let base = nodes.leader();
    tokio::task::spawn_blocking(move || run(&base)).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_holds_on_a_follower() {
    let nodes = nodes::start(3).await;
    let base = nodes.follower();
    tokio::task::spawn_blocking(move || run(&base)).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_holds_with_tls_over_both_versions_of_http() {
    for version in [client::tls::Version::Http1, client::tls::Version::Http2] {
        let nodes = nodes::start_with_tls(version).await;
        let base = nodes.leader();
        let mut cases = all_cases();
        if version == client::tls::Version::Http2 {
            // What is no target at all is a matter of the request line, which HTTP/2 has not got.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a121_a122_a_long_poll_ends_with_an_event_or_with_its_time() {
    let nodes = nodes::start(1).await;
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
        // Whether the poll waits already or begins after the append: it has the event, and long before its time is up.
        assert_eq!(append_bytes(&base, "polled", b"x").status, 201);
        let woken = waiting.join().unwrap();
        assert_eq!((woken.status, woken.json()["entries"][0]["title"].as_str()), (200, Some("1@polled")));
        assert!(started.elapsed() < Duration::from_secs(20), "the append did not wake the poll");
    };
    tokio::task::spawn_blocking(polls).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_large_events_are_cut_short_and_lead_on_without_a_gap() {
    const EVENTS: u64 = 7;
    let nodes = nodes::start(1).await;
    let base = nodes.leader();
    let walk = move || {
        let large = vec![b'x'; 4 * 1024 * 1024];
        for _ in 0..EVENTS {
            assert_eq!(append_bytes(&base, "large", &large).status, 201);
        }
        // A50: beyond the limit nothing is stored.
        let too_large = vec![b'x'; 4 * 1024 * 1024 + 10];
        let refused = append_bytes(&base, "large", &too_large);
        assert_eq!((refused.status, refused.reason.as_deref()), (413, Some("Too large events received. Limit is 4mb")));
        let newest_first: Vec<String> = (0..EVENTS).rev().map(|number| format!("{number}@large")).collect();
        for first in ["/streams/large/head/backward/100", "/streams/%24all/head/backward/100"] {
            assert_eq!(walk(&base, first, "next", "large"), newest_first, "{first}");
        }
        let start = "0".repeat(32);
        for first in ["/streams/large/0/forward/100".to_owned(), format!("/streams/%24all/{start}/forward/100")] {
            let mut pages = walk(&base, &first, "previous", "large");
            // Each page has its newest event first.
            pages.sort();
            assert_eq!(pages, newest_first.iter().rev().cloned().collect::<Vec<_>>(), "{first}");
        }
    };
    tokio::task::spawn_blocking(walk).await.unwrap();
    nodes.stop().await;

    /// Titles of all events of `stream` on the pages from `first` on; every page but the last is shorter than asked.
    fn walk(base: &str, first: &str, relation: &str, stream: &str) -> Vec<String> {
        let mut titles = Vec::new();
        let mut path = Some(first.to_owned());
        let mut pages = 0;
        while let Some(at) = path.take() {
            let headers = [("Accept", "application/vnd.eventstore.atom+json".to_owned())];
            let page = client::send(base, "GET", &at, &headers, b"");
            assert_eq!(page.status, 200, "{at}");
            let page = page.json();
            let entries = page["entries"].as_array().unwrap();
            if entries.is_empty() {
                break;
            }
            pages += 1;
            let of_stream = |title: &&str| title.ends_with(&format!("@{stream}"));
            titles.extend(entries.iter().filter_map(|e| e["title"].as_str()).filter(of_stream).map(str::to_owned));
            let links = page["links"].as_array().unwrap();
            let link = links.iter().find(|link| link["relation"] == relation);
            path = link.map(|link| link["uri"].as_str().unwrap().strip_prefix(base).unwrap().to_owned());
        }
        assert!(pages >= 2, "{first} held everything");
        titles
    }
}
