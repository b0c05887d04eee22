//! From a server that prints pages as an EventStore does.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::old_server::{OldServer, Stored, TOMBSTONE};
use crate::support::client;
use crate::support::process::Process;
use crate::{Random, admin, assert_same, by_stream, import_options, is_compared, log_of, run};

const EVENTS: usize = 10_000;
const STREAMS: u64 = 60;

/// A log with everything that a server of some years has.
struct Story {
    random: Random,
    log: Vec<Stored>,
    next: HashMap<String, u64>,
}

impl Story {
    fn push(&mut self, stream: &str, kind: &str, is_json: bool, data: impl Into<Vec<u8>>) {
        let number = *self.next.get(stream).unwrap_or(&0);
        self.next.insert(stream.to_owned(), number + 1);
        self.push_at(stream, number, kind, is_json, data);
    }

    fn push_at(&mut self, stream: &str, number: u64, kind: &str, is_json: bool, data: impl Into<Vec<u8>>) {
        let metadata = match self.random.below(3) {
            // A tombstone has nothing of its own.
            _ if kind == "$streamDeleted" => "",
            0 => "{\n  \"$correlationId\": \"c\"\n}",
            1 => "{\"n\":1.0,\"e\":1e400}",
            _ => "",
        };
        let seconds = self.log.len();
        let time = format!(
            "2019-05-01T{:02}:{:02}:{:02}.{:06}Z",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60,
            123_451 + seconds % 9
        );
        let id = self.random.id();
        let stored = Stored {
            stream: stream.into(),
            number,
            id,
            kind: kind.into(),
            is_json,
            data: data.into(),
            metadata: metadata.into(),
            time,
        };
        self.log.push(stored);
    }

    /// One more event of some kind.
    fn step(&mut self) {
        let stream = format!("s-{}", self.random.below(STREAMS));
        let stream = stream.as_str();
        let last = self.next.get(stream).map_or(0, |next| next - 1);
        match self.random.below(100) {
            0..60 => {
                self.push(stream, "paid", true, "{\n  \"text\": \"a \\\"b\\\" \\u00e9 \u{2028}\",\n  \"n\": 1.0\n}")
            }
            60..80 => self.push(stream, "größe", true, "{\"a\":1,\"a\":1e400}"),
            80..84 => self.push(stream, "bytes", false, vec![0, 255, 10, b'x']),
            84..86 => self.push(stream, "text", false, "plain \u{20ac}"),
            86..92 => self.push(&format!("links-{}", self.random.0 % 5), "$>", false, format!("{last}@{stream}")),
            92..93 => self.push("links-0", "$>", false, "5@nowhere"),
            93..96 => self.push("$ce-s", "$>", false, format!("{last}@{stream}")),
            96..98 => self.push("$stats-127.0.0.1:2113", "$statsCollected", true, "{}"),
            _ => self.push(&format!("$${stream}"), "$metadata", true, "{\"$maxCount\":500,\"$acl\":{\"$r\":\"$all\"}}"),
        }
    }
}

fn story() -> Vec<Stored> {
    let mut story = Story { random: Random(7), log: Vec::new(), next: HashMap::new() };
    story.push("$user-admin", "$UserCreated", true, "{}");
    story.push("$users", "$User", false, "admin");
    story.push("$user-ann", "$UserCreated", true, "{\"loginName\":\"ann\"}");
    story.push("$users", "$User", false, "ann");
    // Its first events are gone, and some in the middle.
    for number in (40..60).chain(70..80) {
        story.push_at("scavenged", number, "t", true, "{}");
    }
    for name in ["soft", "hard", "again"] {
        story.push(name, "t", true, "{}");
        story.push(name, "t", false, "seen by nobody");
    }
    story.push("$$soft", "$metadata", true, "{\"$tb\":9223372036854775807}");
    story.push("$$again", "$metadata", true, "{\"$tb\":9223372036854775807}");
    story.push("$$again", "$metadata", true, "{\"$tb\":2}");
    story.push("again", "t", true, "{}");
    story.push_at("hard", TOMBSTONE, "$streamDeleted", false, "");
    while story.log.len() < EVENTS {
        story.step();
    }
    story.log
}

/// A node without events, and the options of an import into it.
fn target_of(source: &str, directory: &tempfile::TempDir) -> (Process, String, Vec<String>) {
    let data = format!("--data-dir={}", directory.path().join("data").display());
    let (process, target) = Process::start_single(&[&data]);
    let options = import_options(directory.path(), source, &target);
    (process, target, options)
}

/// The numbers that a node has of a stream.
fn numbers_of(node: &str, stream: &str) -> Vec<u64> {
    let of_stream = |event: &Value| (event["stream"] == stream).then(|| event["number"].as_u64().unwrap());
    log_of(node).iter().filter_map(of_stream).collect()
}

fn empty_story() -> Story {
    Story { random: Random(8), log: Vec::new(), next: HashMap::new() }
}

#[test]
fn a_link_that_leads_nowhere_is_left_out_once_later_events_of_its_stream_are_copied() {
    let mut story = empty_story();
    story.push("target", "t", true, "{}");
    for _ in 0..5 {
        story.push("s", "t", true, "{}");
    }
    story.push("s", "$>", false, "9@gone");
    story.push("s", "t", true, "{}");
    story.push("s", "$>", false, "0@target");
    story.push("s", "$>", false, "8@gone");
    story.push("s", "$>", false, "0@target");
    let source = OldServer::serve(story.log);
    let directory = tempfile::tempdir().unwrap();
    let (_process, target, options) = target_of(&source, &directory);
    let said = run(&options);
    assert!(said.contains("the link 5@s leads to an event that is gone"), "{said}");
    let copied = [0, 1, 2, 3, 4, 6, 7, 8, 9];
    assert_eq!(numbers_of(&target, "s"), copied);
    // From the beginning once more, as after a lost note.
    let again = run(&[&options[..], &["--name=again".to_owned()]].concat());
    assert!(again.contains("stored 0 events; 10 were there already"), "{again}");
    assert_eq!(numbers_of(&target, "s"), copied);
}

#[test]
fn a_truncated_stream_without_events_goes_on_behind_its_last_number() {
    let mut story = empty_story();
    story.push("$$emptied", "$metadata", true, "{\"$tb\":10}");
    story.push("$$far", "$metadata", true, "{\"$tb\":10}");
    // It was truncated before events that it does not have yet.
    story.push_at("far", 3, "t", true, "{}");
    let source = OldServer::serve(story.log);
    let directory = tempfile::tempdir().unwrap();
    let (_process, target, options) = target_of(&source, &directory);
    run(&options);
    for (stream, number) in [("emptied", 10), ("far", 4)] {
        let mut headers = admin();
        headers.extend([("Content-Type", "application/json".to_owned()), ("ES-EventType", "t".to_owned())]);
        headers.push(("ES-EventId", Random(number).id()));
        let answer = client::send(&target, "POST", &format!("/streams/{stream}"), &headers, b"{}");
        let location = answer.header("location").unwrap();
        assert!(location.ends_with(&format!("/streams/{stream}/{number}")), "{location}");
    }
}

#[test]
fn an_event_that_is_too_large_ends_the_import_unless_it_is_to_be_left_out() {
    let mut story = empty_story();
    story.push("s", "t", true, "{}");
    let large = format!("\"{}\"", "x".repeat(4 << 20));
    story.push("s", "t", true, large);
    story.push("s", "t", true, "{}");
    let source = OldServer::serve(story.log);
    let directory = tempfile::tempdir().unwrap();
    let (_process, target, options) = target_of(&source, &directory);
    let ended = crate::support::process::output(&options);
    let said = crate::said(&ended);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("event 1 of stream 's' has more than 4 MiB") && said.contains("--leave-out-large"), "{said}");
    let said = run(&[&options[..], &["--leave-out-large".to_owned()]].concat());
    assert!(said.contains("left out 1 event: more than 4 MiB") && said.contains("1 were left out"), "{said}");
    assert_eq!(numbers_of(&target, "s"), [0, 2]);
    let log = std::fs::read_to_string(directory.path().join("import.log")).unwrap();
    assert!(log.contains("left out 1@s"), "{log}");
}

/// An event as the target has to have it.
fn line(event: &Stored) -> Value {
    let mut line = json!({
        "stream": event.stream, "number": event.number, "id": event.id, "type": event.kind, "time": event.time, "position": 0,
    });
    if event.is_json {
        line["isJson"] = json!(true);
    }
    for (name, bytes) in [("data", &event.data[..]), ("metadata", event.metadata.as_bytes())] {
        if !bytes.is_empty() {
            line[name] = json!(STANDARD.encode(bytes));
        }
    }
    line
}

#[test]
fn a_server_of_some_years_is_copied_with_everything_that_its_users_wrote() {
    let log = story();
    let source = OldServer::serve(log.clone());
    let directory = tempfile::tempdir().unwrap();
    let data = format!("--data-dir={}", directory.path().join("data").display());
    let (_process, target) = Process::start_single(&[&data]);
    let options = import_options(directory.path(), &source, &target);
    let said = run(&options);
    let copied = log_of(&target);
    assert_same(&by_stream(copied.clone()), &by_stream(log.iter().map(line).collect()));
    for reason in ["written by the projection $by_category", "statistics of the old server", "added 1 user to the list"]
    {
        assert!(said.contains(reason), "{said}");
    }
    // What nobody can read any more was taken from its text.
    let written = std::fs::read_to_string(directory.path().join("import.log")).unwrap();
    assert!(written.contains("1@hard can no longer be read by itself"), "{written}");
    assert!(written.contains("1@soft can no longer be read by itself"));
    // The order of the log is that of the source, but for links that had to be looked for.
    let order = |names: Vec<(String, u64)>| {
        names.into_iter().filter(|(name, _)| is_compared(name) && !name.starts_with("links-")).collect::<Vec<_>>()
    };
    let copied = log_of(&target);
    let copied =
        copied.iter().map(|event| (event["stream"].as_str().unwrap().to_owned(), event["number"].as_u64().unwrap()));
    let stored = log.iter().map(|event| (event.stream.clone(), event.number));
    assert_eq!(order(copied.collect()), order(stored.collect()));
    // Deletions and metadata are in force.
    let mut headers = admin();
    headers.push(("Accept", "application/vnd.eventstore.atom+json".to_owned()));
    let status = |path: &str| client::send(&target, "GET", path, &headers, b"").status;
    assert_eq!([status("/streams/soft"), status("/streams/hard"), status("/streams/again/2")], [404, 410, 200]);
    // Once more changes nothing.
    let again = run(&options);
    assert!(again.contains("stored 0 events"), "{again}");
}
