//! Our feeds as an Atom library reads them (RFC 4287, RFC 5005); `make clients` has readers in
//! other languages.

use std::collections::BTreeSet;

use atom_syndication::Feed;

use crate::support::client;
use crate::support::nodes::Nodes;

const EVENTS: u64 = 25;

/// `read & <written>`, as it stands in a path.
const NAME: &str = "read%20%26%20%3Cwritten%3E";

fn feed(base: &str, path: &str) -> Feed {
    let answer = client::send(base, "GET", path, &[("Accept", "application/atom+xml".to_owned())], b"");
    assert_eq!(
        (answer.status, answer.header("Content-Type").as_deref()),
        (200, Some("application/atom+xml; charset=utf-8"))
    );
    Feed::read_from(&answer.body[..]).unwrap_or_else(|error| panic!("{error} in {}", answer.text()))
}

fn link<'a>(feed: &'a Feed, rel: &str) -> Option<&'a str> {
    feed.links().iter().find(|link| link.rel() == rel).map(|link| link.href())
}

/// Titles of all entries from `first` on along the links `rel`, page by page, and the feeds
/// themselves.
fn walk(base: &str, first: &str, rel: &str) -> Vec<Feed> {
    let mut feeds = vec![feed(base, first)];
    while let Some(next) = link(&feeds[feeds.len() - 1], rel) {
        assert!(feeds.len() < 100, "the links lead in a circle");
        let path = next.strip_prefix(base).expect("links stay on the node").to_owned();
        let page = feed(base, &path);
        let is_empty = page.entries().is_empty();
        feeds.push(page);
        // The newest page keeps its `previous` link, for events to come.
        if is_empty {
            break;
        }
    }
    feeds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_atom_library_reads_every_page_of_a_stream() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let read = move || {
        for _ in 0..EVENTS {
            assert_eq!(crate::append_bytes(&base, NAME, b"x").status, 201);
        }
        let stream = format!("/streams/{NAME}");
        let newest_first: Vec<String> = (0..EVENTS).rev().map(|n| format!("{n}@read & <written>")).collect();
        for (first, rel) in [(stream.clone(), "next"), (format!("{stream}/0/forward/7"), "previous")] {
            let feeds = walk(&base, &first, rel);
            let mut titles: Vec<Vec<String>> = feeds
                .iter()
                .map(|feed| feed.entries().iter().map(|entry| entry.title().to_string()).collect())
                .collect();
            if rel == "previous" {
                titles.reverse();
            }
            assert_eq!(titles.concat(), newest_first, "{first}");
            let mut ids = BTreeSet::new();
            for feed in &feeds {
                assert_eq!(feed.title().to_string(), "Event stream 'read & <written>'");
                assert_eq!(feed.authors()[0].name(), "EventStore");
                assert_eq!(feed.id(), format!("{base}{stream}"));
                assert_eq!(link(feed, "self"), Some(feed.id()));
                // The time of a page is that of its newest event, read backwards, and of its
                // oldest, read forwards (contract/streams 8.3).
                let timed = if rel == "next" { feed.entries().first() } else { feed.entries().last() };
                assert!(timed.is_none_or(|entry| entry.updated() == feed.updated()));
                for entry in feed.entries() {
                    assert!(ids.insert(entry.id().to_owned()), "two entries with the id {}", entry.id());
                    assert_eq!(entry.summary().map(|text| text.as_str()), Some("t"));
                    let links: Vec<(&str, &str)> = entry.links().iter().map(|link| (link.rel(), link.href())).collect();
                    assert_eq!(links, [("edit", entry.id()), ("alternate", entry.id())]);
                }
            }
            assert_eq!(ids.len() as u64, EVENTS);
        }
    };
    tokio::task::spawn_blocking(read).await.unwrap();
    nodes.stop().await;
}

/// Without bodies a page is written from the index, with `embed=rich` from the events
/// (docs/adr/0013-headings-in-the-index.md).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_the_same_from_the_index_and_from_the_events() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let compare = move || {
        let write = |stream: &str, types: &[&str], data: &str| {
            let event = |event_type: &&str| {
                let id = uuid::Uuid::new_v4().to_string();
                serde_json::json!({ "eventId": id, "eventType": event_type, "data": data })
            };
            let body = serde_json::Value::from_iter(types.iter().map(event)).to_string();
            let headers = [
                ("Content-Type", "application/vnd.eventstore.events+json".to_owned()),
                ("Authorization", client::ADMIN.to_owned()),
            ];
            let answer = client::send(&base, "POST", &format!("/streams/{stream}"), &headers, body.as_bytes());
            assert_eq!(answer.status, 201, "{}", answer.text());
        };
        let at_limit = "t".repeat(128);
        let (beyond, longest) = ("é".repeat(65), "l".repeat(1024));
        write("short", &["a", "with \"quotes\" & <brackets>", "日本", &at_limit], "x");
        write("long", &["a", &beyond, "b", &longest], "x");
        write("links", &["a", "$>", "b"], "1@short");
        write("broken-links", &["$>", "b"], "no link");
        write("large", &["a", "b", "c"], &"x".repeat(300_000));
        write("many", &["a"; 300], "x");
        write("cut", &["a", "b", "c", "d"], "x");
        write("$$cut", &["$metadata"; 3], r#"{"$tb":1,"$maxAge":3600}"#);
        let entries = |path: &str, query: &str, resolve: bool| {
            let headers = [
                ("Accept", "application/vnd.eventstore.atom+json".to_owned()),
                ("ES-ResolveLinkTos", resolve.to_string()),
                ("Authorization", client::ADMIN.to_owned()),
            ];
            let answer = client::send(&base, "GET", &format!("{path}{query}"), &headers, b"");
            assert_eq!(answer.status, 200, "{path}{query}: {}", answer.text());
            let mut feed = answer.json();
            for entry in feed["entries"].as_array_mut().unwrap() {
                let told = ["title", "id", "updated", "author", "summary", "links"];
                entry.as_object_mut().unwrap().retain(|name, _| told.contains(&name.as_str()));
                assert_eq!(entry.as_object().unwrap().len(), told.len(), "{path}{query}");
            }
            feed
        };
        for stream in ["short", "long", "links", "broken-links", "large", "many", "cut", "$$cut"] {
            for page in ["", "/head/backward/2", "/1/backward/5", "/0/forward/3", "/1/forward/100", "/0/forward/290"] {
                let path = format!("/streams/{stream}{page}");
                for resolve in [true, false] {
                    let from_events = entries(&path, "?embed=rich", resolve);
                    assert_eq!(entries(&path, "", resolve), from_events, "{path}, resolve {resolve}");
                    // Of metadata only the newest event is shown.
                    let is_empty = from_events["entries"].as_array().unwrap().is_empty();
                    assert!(!is_empty || stream.starts_with("$$"), "{path}");
                }
            }
        }
        let titles = |resolve| entries("/streams/links", "", resolve)["entries"][1]["title"].clone();
        assert_eq!((titles(true), titles(false)), ("1@short".into(), "1@links".into()), "the link is followed");
        let xml = feed(&base, "/streams/short");
        let summaries: Vec<&str> =
            xml.entries().iter().filter_map(|entry| Some(entry.summary()?.value.as_str())).collect();
        assert_eq!(summaries, [&at_limit, "日本", "with \"quotes\" & <brackets>", "a"]);
    };
    tokio::task::spawn_blocking(compare).await.unwrap();
    nodes.stop().await;
}
