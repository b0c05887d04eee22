//! Kept pages follow every change of their stream (docs/adr/0009-kept-pages.md).

use std::time::{Duration, Instant};

use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;

/// As often as a page has to be asked for to be kept and then sent from there: written, written and
/// kept, sent.
const TIMES: usize = 3;

fn write(base: &str, stream: &str, events: &[(&str, &str)]) {
    let events: Vec<String> = events
        .iter()
        .map(|(event_type, data)| {
            format!(r#"{{"eventId":"{}","eventType":"{event_type}","data":{data}}}"#, uuid::Uuid::new_v4())
        })
        .collect();
    let headers = [
        ("Content-Type", "application/vnd.eventstore.events+json".to_owned()),
        ("Authorization", client::ADMIN.to_owned()),
    ];
    let body = format!("[{}]", events.join(","));
    let answer = client::send(base, "POST", &format!("/streams/{stream}"), &headers, body.as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn describe(base: &str, stream: &str, metadata: &str) {
    write(base, &format!("$${stream}"), &[("$metadata", metadata)]);
}

/// The same answer, however often it is asked for.
fn get(base: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let answer = || {
        let mut answer = client::send(base, "GET", path, &headers, b"");
        // A clock ticks between two of them.
        answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
        answer
    };
    let first = answer();
    for _ in 1..TIMES {
        let again = answer();
        assert_eq!(
            (again.status, &again.headers, again.text()),
            (first.status, &first.headers, first.text()),
            "{path}"
        );
    }
    first
}

const JSON: (&str, &str) = ("Accept", "application/vnd.eventstore.atom+json");

/// Numbers of the entries, newest first.
fn numbers(base: &str, path: &str) -> Vec<u64> {
    let answer = get(base, path, &[JSON]);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let feed = answer.json();
    let titles = feed["entries"].as_array().unwrap().iter().map(|entry| entry["title"].as_str().unwrap().to_owned());
    titles.map(|title| title.split('@').next().unwrap().parse().unwrap()).collect()
}

fn kept_pages_sent(base: &str) -> u64 {
    let metrics = client::send(base, "GET", "/metrics", &[], b"").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("headwater_http_kept_pages_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_page_equals_a_page_written_anew() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        write(&base, "s", &[("t", r#"{"n":1}"#); 25]);
        let old = "/streams/s/0/forward/10";
        let before = kept_pages_sent(&base);
        assert_eq!(numbers(&base, old), (0..10).rev().collect::<Vec<_>>());
        assert!(kept_pages_sent(&base) > before, "it was kept");

        // Each of these is another document.
        let page = get(&base, old, &[JSON]);
        let as_xml = get(&base, old, &[("Accept", "application/atom+xml")]);
        assert!(as_xml.text().starts_with("<?xml"), "{}", as_xml.text());
        assert!(get(&base, &format!("{old}?embed=body"), &[JSON]).text().contains("\\\"n\\\": 1"));
        let elsewhere = get(&base, old, &[JSON, ("X-Forwarded-Prefix", "/behind")]);
        assert!(elsewhere.text().contains("/behind/streams/s/"));
        assert!(!get(&base, old, &[JSON]).text().contains("/behind/"));
        assert_eq!(get(&base, old, &[JSON]).text(), page.text());
        assert_eq!(page.header("Cache-Control").as_deref(), Some("max-age=31536000, public"));

        // The head moves; what lies below stays.
        assert_eq!(numbers(&base, "/streams/s").first(), Some(&24));
        let tag = get(&base, "/streams/s", &[JSON]).header("ETag").unwrap();
        let not_modified = get(&base, "/streams/s", &[JSON, ("If-None-Match", &tag)]);
        assert_eq!(not_modified.status, 304);
        write(&base, "s", &[("t", "{}")]);
        assert_eq!(get(&base, "/streams/s", &[JSON, ("If-None-Match", &tag)]).status, 200);
        assert_eq!(numbers(&base, "/streams/s").first(), Some(&25));
        assert_eq!(get(&base, old, &[JSON]).text(), page.text());

        // Events that metadata hide are gone from kept pages, too.
        describe(&base, "s", r#"{"$maxCount":20}"#);
        assert_eq!(numbers(&base, old), [9, 8, 7, 6]);
        write(&base, "s", &[("t", "{}")]);
        assert_eq!(numbers(&base, old), [9, 8, 7]);
        describe(&base, "s", r#"{"$acl":{"$r":"$admins"}}"#);
        assert_eq!(get(&base, old, &[JSON]).status, 401);
        let private = get(&base, old, &[JSON, ("Authorization", client::ADMIN)]);
        assert_eq!(private.header("Cache-Control").as_deref(), Some("max-age=31536000, private"));
        describe(&base, "s", "{}");
        assert_eq!(get(&base, old, &[JSON]).text(), page.text());

        let admin = [("Authorization", client::ADMIN.to_owned())];
        assert_eq!(client::send(&base, "DELETE", "/streams/s", &admin, b"").status, 204);
        assert_eq!(get(&base, old, &[JSON]).status, 404);
        write(&base, "s", &[("t", "{}")]);
        assert_eq!(numbers(&base, old), Vec::<u64>::new());
        assert_eq!(numbers(&base, "/streams/s"), [27]);
        let hard = [("ES-HardDelete", "true".to_owned()), admin[0].clone()];
        assert_eq!(client::send(&base, "DELETE", "/streams/s", &hard, b"").status, 204);
        assert_eq!(get(&base, "/streams/s", &[JSON]).status, 410);
        assert_eq!(get(&base, old, &[JSON]).status, 410);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_depend_on_more_than_their_events_are_not_kept() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        write(&base, "target", &[("seen", "{}")]);
        write(&base, "links", &[("$>", "\"0@target\"")]);
        let before = kept_pages_sent(&base);
        let page = "/streams/links/0/forward/20?embed=rich";
        assert!(get(&base, page, &[JSON]).text().contains("\"seen\""));
        let admin = [("Authorization", client::ADMIN.to_owned())];
        assert_eq!(client::send(&base, "DELETE", "/streams/target", &admin, b"").status, 204);
        assert!(!get(&base, page, &[JSON]).text().contains("\"seen\""));

        write(&base, "aged", &[("t", "{}")]);
        describe(&base, "aged", r#"{"$maxAge":1}"#);
        let one = |path: &str| client::send(&base, "GET", path, &[(JSON.0, JSON.1.to_owned())], b"").json();
        let started = Instant::now();
        while one("/streams/aged/0/forward/20")["entries"] != serde_json::json!([]) {
            assert!(started.elapsed() < Duration::from_secs(30), "the event does not get old");
        }
        assert_eq!(kept_pages_sent(&base), before);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}
