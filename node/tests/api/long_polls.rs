//! Long polls that end because something happens (contract/streams 8.8). Those that wait in vain
//! are in the tables.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::append_bytes;
use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;

const ATOM_JSON: &str = "application/vnd.eventstore.atom+json";

/// Longer than any event takes to arrive, shorter than [`LONG`].
const PROMPT: Duration = Duration::from_secs(20);

/// Seconds that a poll may wait which something is to end.
const LONG: u64 = 50;

/// Asks for a page on a thread of its own, and measures how long the answer takes.
fn poll(base: &str, path: &str, seconds: u64, tag: Option<&str>) -> JoinHandle<(Answer, Duration)> {
    let mut headers = vec![
        ("Accept", ATOM_JSON.to_owned()),
        ("Authorization", client::ADMIN.to_owned()),
        ("ES-LongPoll", seconds.to_string()),
    ];
    headers.extend(tag.map(|tag| ("If-None-Match", tag.to_owned())));
    let (base, path) = (base.to_owned(), path.to_owned());
    thread::spawn(move || {
        let started = Instant::now();
        (client::send(&base, "GET", &path, &headers, b""), started.elapsed())
    })
}

fn delete(base: &str, stream: &str, is_hard: bool) {
    let headers = [("ES-HardDelete", is_hard.to_string())];
    assert_eq!(client::send(base, "DELETE", &format!("/streams/{stream}"), &headers, b"").status, 204);
}

fn titles(answer: &Answer) -> Vec<String> {
    let feed = answer.json();
    let entries = feed["entries"].as_array().unwrap().iter();
    entries.map(|entry| entry["title"].as_str().unwrap().to_owned()).collect()
}

/// Whether each poll waits already when something happens, or begins after it, its answer is the
/// same.
fn every_end(base: &str) {
    let append = |stream: &str| assert_eq!(append_bytes(base, stream, b"x").status, 201);

    // A stream that appears.
    let waiting = poll(base, "/streams/appears/0/forward/5", LONG, None);
    append("appears");
    let (answer, took) = waiting.join().unwrap();
    assert_eq!((answer.status, titles(&answer)), (200, vec!["0@appears".to_owned()]));
    assert!(took < PROMPT, "{took:?}");

    // A client that knows the present version waits for the next one.
    let known = "\"0;-2060438500\"";
    let waiting = poll(base, "/streams/appears/1/forward/5", LONG, Some(known));
    append("appears");
    let (answer, took) = waiting.join().unwrap();
    assert_eq!((answer.status, titles(&answer)), (200, vec!["1@appears".to_owned()]));
    assert!(took < PROMPT, "{took:?}");

    // An event of this stream ends a wait for a later one, too: with an empty page.
    let waiting = poll(base, "/streams/appears/90/forward/5", 3, None);
    append("another");
    append("appears");
    let (answer, _) = waiting.join().unwrap();
    assert_eq!((answer.status, titles(&answer).len()), (200, 0));

    // Metadata is a stream like others.
    let waiting = poll(base, "/streams/described/metadata/0/forward/5", LONG, None);
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("ES-EventId", uuid::Uuid::new_v4().to_string()),
        ("ES-EventType", "$metadata".to_owned()),
    ];
    assert_eq!(client::send(base, "POST", "/streams/described/metadata", &headers, b"{}").status, 201);
    let (answer, took) = waiting.join().unwrap();
    assert_eq!((answer.status, titles(&answer)), (200, vec!["0@$$described".to_owned()]));
    assert!(took < PROMPT, "{took:?}");

    // A soft delete ends no wait; what is found when the time is over is the answer.
    append("softly");
    let waiting = poll(base, "/streams/softly/1/forward/5", 3, None);
    delete(base, "softly", false);
    let (answer, took) = waiting.join().unwrap();
    assert_eq!(answer.status, 404);
    assert!(took >= Duration::from_millis(2_900), "{took:?}");

    // A hard delete ends it at once.
    append("hard");
    let waiting = poll(base, "/streams/hard/1/forward/5", LONG, None);
    delete(base, "hard", true);
    let (answer, took) = waiting.join().unwrap();
    assert_eq!((answer.status, answer.reason.as_deref()), (410, Some("Deleted")));
    assert!(took < PROMPT, "{took:?}");

    // Any event ends a wait at the end of the log of all events.
    let headers = [("Accept", ATOM_JSON.to_owned()), ("Authorization", client::ADMIN.to_owned())];
    let head = client::send(base, "GET", "/streams/$all/head/backward/1", &headers, b"");
    let feed = head.json();
    let links = feed["links"].as_array().unwrap();
    let previous = links.iter().find(|link| link["relation"] == "previous").unwrap()["uri"].as_str().unwrap();
    let waiting = poll(base, previous.strip_prefix(base).unwrap(), LONG, head.header("etag").as_deref());
    append("anything");
    let (answer, took) = waiting.join().unwrap();
    assert_eq!((answer.status, titles(&answer)), (200, vec!["0@anything".to_owned()]));
    assert!(took < PROMPT, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_polls_end_as_they_should_on_a_single_node() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    tokio::task::spawn_blocking(move || every_end(&base)).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_polls_end_as_they_should_on_a_follower() {
    let nodes = Nodes::start(3).await;
    let base = nodes.follower();
    tokio::task::spawn_blocking(move || every_end(&base)).await.unwrap();
    nodes.stop().await;
}
