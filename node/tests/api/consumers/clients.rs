//! What public clients and exporters ask about groups, request by request: the headers that they
//! send, the members that they read, and the kinds of values that they need.

use serde_json::{Value, json};

use super::{Group, JSON, MESSAGES, on_a_follower, on_a_node, send};
use crate::support::block_until;

/// As an HTTP library sends it that writes objects as JSON.
const JSON_IN_UTF_8: &str = "application/json;charset=utf-8";

/// Requests of a JavaScript client: a media type with a charset, `{}` as the body of an
/// acknowledgement, names of settings in another case, and `embed=Body`.
struct Script<'a>(&'a Group);

impl Script<'_> {
    /// Makes the group, or changes it if it is there.
    fn assert(&self, settings: &Value) {
        let headers = [("Accept", JSON), ("Content-Type", JSON_IN_UTF_8)];
        let made = self.0.send("PUT", "", &headers, &settings.to_string());
        if made.status == 409 {
            let changed = self.0.send("POST", "", &headers, &settings.to_string());
            assert_eq!((changed.status, &changed.json()["result"]), (200, &json!("Success")));
        } else {
            assert_eq!((made.status, &made.json()["result"]), (201, &json!("Success")));
        }
    }

    /// The entries of the next messages, and the links of the feed.
    fn events(&self, count: usize) -> (Vec<Value>, Value) {
        let feed = self.0.feed(&format!("/{count}?embed=Body"), &[]);
        (feed["entries"].as_array().unwrap().clone(), feed["links"].clone())
    }

    /// Follows a link by its relation.
    fn follow(&self, links: &Value, relation: &str) {
        let link = links.as_array().unwrap().iter().find(|link| link["relation"] == relation).unwrap();
        let path = link["uri"].as_str().unwrap().strip_prefix(&self.0.base).unwrap().to_owned();
        let headers = [("Accept", JSON), ("Content-Type", JSON_IN_UTF_8)];
        assert_eq!(send(&self.0.base, "POST", &path, &headers, "{}").status, 202);
    }
}

/// What the event of an entry has as `a`: its data is a text of JSON.
fn number(entry: &Value) -> u64 {
    serde_json::from_str::<Value>(entry["data"].as_str().unwrap()).unwrap()["a"].as_u64().unwrap()
}

fn a_script_takes_and_settles_messages(base: &str) {
    let group = Group::new(base);
    let script = Script(&group);
    group.append(12);
    script.assert(&json!({"startFrom": 0}));
    let mut entries = Vec::new();
    let mut links = Value::Null;
    block_until("all messages come", || {
        let (more, of_feed) = script.events(100);
        links = of_feed;
        entries.splice(0..0, more);
        entries.len() == 12
    });
    assert_eq!(entries.iter().map(number).collect::<Vec<_>>(), (0..12).rev().collect::<Vec<_>>());
    for entry in &entries[..4] {
        script.follow(&entry["links"], "nack");
    }
    for entry in &entries[4..8] {
        script.follow(&entry["links"], "ack");
    }
    for entry in &entries[8..] {
        script.follow(&entry["links"], "nack");
    }
    // What was refused comes at once, in the order of the stream, the newest first.
    let (again, links) = script.events(10);
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [11, 10, 9, 8, 3, 2, 1, 0]);
    script.follow(&links, "ackAll");
    let (none, _) = script.events(10);
    assert!(none.is_empty(), "{none:?}");

    script.assert(&json!({"startFrom": 0, "readBatchSize": 121, "resolveLinkTos": true}));
    let info = group.send("GET", "/info", &[("Accept", JSON)], "").json();
    assert_eq!((&info["config"]["readBatchSize"], &info["config"]["resolveLinktos"]), (&json!(121), &json!(true)));
    assert_eq!((&info["groupName"], &info["eventStreamId"]), (&json!(group.name), &json!(group.stream)));
    assert_eq!(group.send("DELETE", "", &[("Accept", JSON)], "").status, 200);
    assert_eq!(group.send("GET", "/10?embed=Body", &[("Accept", MESSAGES)], "").status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_takes_and_settles_messages_on_a_single_node() {
    on_a_node(a_script_takes_and_settles_messages).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_takes_and_settles_messages_through_a_follower() {
    on_a_follower(a_script_takes_and_settles_messages).await;
}

/// An exporter asks each node every few seconds. It needs a list, integers where it counts, and
/// texts where it reads positions; one value of another kind, and it has no figures at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exporter_reads_the_figures_of_all_groups() {
    on_a_follower(|base| {
        let list = || send(base, "GET", "/subscriptions", &[("Accept", JSON)], "");
        let empty = list();
        assert_eq!((empty.status, empty.json()), (200, json!([])));

        let group = Group::made(base, r#"{"minCheckPointCount":1}"#);
        group.append(60);
        let (taken, parked) = (group.take(30), 20);
        for message in &taken[..10] {
            message.acknowledge(base);
        }
        for message in &taken[10..] {
            message.give_back(base, "?action=park");
        }
        let figures = || list().json()[0].clone();
        block_until("what was settled is stored", || figures()["lastProcessedEventNumber"] == 29);
        let told = figures();
        for (name, expected) in [
            ("totalItemsProcessed", 30),
            ("connectionCount", 0),
            ("lastKnownEventNumber", 59),
            ("totalInFlightMessages", 0),
            ("parkedMessageCount", parked),
        ] {
            assert_eq!(told[name].as_i64(), Some(expected), "{name}: {told}");
        }
        for (name, expected) in [
            ("eventStreamId", group.stream.as_str()),
            ("groupName", group.name.as_str()),
            ("lastCheckpointedEventPosition", "29"),
            ("lastKnownEventPosition", "59"),
        ] {
            assert_eq!(told[name].as_str(), Some(expected), "{name}: {told}");
        }

        // Parked messages: the last number of their stream, and what was truncated.
        let newest = group.own_stream("parked").pop().unwrap();
        assert_eq!(newest["positionEventNumber"].as_i64(), Some(parked - 1), "{newest}");
        assert_eq!(group.send("POST", "/replayParked", &[("Accept", JSON)], "").status, 200);
        for message in group.take(20) {
            message.acknowledge(base);
        }
        block_until("nothing is parked", || figures()["parkedMessageCount"] == 0);
        let path = format!("/streams/%24persistentsubscription-{}::{}-parked/metadata", group.stream, group.name);
        let metadata = send(base, "GET", &path, &[("Accept", JSON)], "").json();
        assert_eq!(metadata["$tb"].as_i64(), Some(parked), "{metadata}");
    })
    .await;
}
