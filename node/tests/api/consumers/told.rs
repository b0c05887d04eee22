//! What is told of groups, and what they leave behind.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Group, JSON, numbers, on_a_node, send};
use crate::support::block_until;
use crate::support::nodes::Places;
use crate::support::process::Process;

fn keys(of: &Value) -> Vec<&str> {
    of.as_object().unwrap().keys().map(String::as_str).collect()
}

/// PS-A03, A30; contract/services 3.5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_tells_how_far_it_has_come() {
    on_a_node(|base| {
        let group = Group::made(base, r#"{"minCheckPointCount":1}"#);
        let info = group.info();
        let own = format!("{base}{}", group.path(""));
        let links = json!([
            {"href": format!("{own}/info"), "rel": "detail"},
            {"href": format!("{own}/replayParked"), "rel": "replayParked"},
        ]);
        assert_eq!(info["links"], links);
        let parked = format!("{base}/streams/%24persistentsubscription-{}::{}-parked", group.stream, group.name);
        for (name, expected) in [
            ("eventStreamId", json!(group.stream)),
            ("groupName", json!(group.name)),
            ("parkedMessageUri", json!(parked)),
            ("getMessagesUri", json!(format!("{own}/1"))),
            ("lastProcessedEventNumber", json!(-1)),
            ("lastKnownEventNumber", json!(-1)),
            ("lastAckedEventNumber", json!(-1)),
            ("totalItemsProcessed", json!(0)),
            ("outstandingMessagesCount", json!(0)),
            ("parkedMessageCount", json!(0)),
            ("connections", json!([])),
            ("lastKnownEventPosition", Value::Null),
            ("oldestParkedMessage", Value::Null),
            ("stalledSince", Value::Null),
            ("failure", Value::Null),
        ] {
            assert_eq!(info[name], expected, "{name} in {info}");
        }

        group.append(3);
        let taken = group.take(3);
        let info = group.info();
        assert_eq!((&info["outstandingMessagesCount"], &info["totalInFlightMessages"]), (&json!(3), &json!(0)));
        assert_eq!((&info["lastKnownEventNumber"], &info["lastKnownEventPosition"]), (&json!(2), &json!("2")));
        assert!(info["oldestOutstandingSeconds"].is_u64(), "{info}");
        taken.iter().for_each(|message| message.acknowledge(base));
        block_until("the checkpoint is told", || group.info()["lastProcessedEventNumber"] == 2);
        let info = group.info();
        assert_eq!((&info["lastAckedEventNumber"], &info["lastCheckpointedEventPosition"]), (&json!(2), &json!("2")));
        assert_eq!((&info["status"], &info["outstandingMessagesCount"]), (&json!("Live"), &json!(0)));

        let listed = send(base, "GET", &format!("/subscriptions/{}", group.stream), &[("Accept", JSON)], "");
        assert_eq!(listed.status, 200);
        let summary = &listed.json()[0];
        let names = [
            "links",
            "eventStreamId",
            "groupName",
            "parkedMessageUri",
            "getMessagesUri",
            "status",
            "averageItemsPerSecond",
            "totalItemsProcessed",
            "lastProcessedEventNumber",
            "lastKnownEventNumber",
            "lastCheckpointedEventPosition",
            "lastKnownEventPosition",
            "lastAckedEventNumber",
            "parkedMessageCount",
            "connectionCount",
            "totalInFlightMessages",
        ];
        assert_eq!(keys(summary), names);
        let none = send(base, "GET", "/subscriptions/none", &[("Accept", JSON)], "");
        assert_eq!((none.status, none.text()), (404, "[]".to_owned()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_listed_page_by_page() {
    on_a_node(|base| {
        let first = Group::made(base, "{}");
        let names = ["a", "b", "c", "d"];
        for name in names {
            assert_eq!(first.beside(name).put("{}").status, 201);
        }
        let all = send(base, "GET", "/subscriptions", &[("Accept", JSON)], "").json();
        assert_eq!(all.as_array().unwrap().len(), 5);
        let mut path = "/subscriptions?offset=0&count=2".to_owned();
        let mut seen = Vec::new();
        loop {
            let page = send(base, "GET", &path, &[("Accept", JSON)], "").json();
            assert_eq!(page["total"], 5);
            seen.extend(page["subscriptions"].as_array().unwrap().iter().map(|group| group["groupName"].clone()));
            let next = page["links"].as_array().unwrap().iter().find(|link| link["rel"] == "next");
            let Some(next) = next else { break };
            path = next["href"].as_str().unwrap().strip_prefix(base).unwrap().to_owned();
        }
        let listed: Vec<Value> = all.as_array().unwrap().iter().map(|group| group["groupName"].clone()).collect();
        assert_eq!(seen, listed);
        for wrong in ["offset=-1", "count=0", "offset=x", "count="] {
            assert_eq!(send(base, "GET", &format!("/subscriptions?{wrong}"), &[], "").status, 400, "{wrong}");
        }
    })
    .await;
}

/// PS-A31; contract/streams 15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_document_of_a_stream_names_its_groups() {
    on_a_node(|base| {
        let group = Group::new(base);
        let described = || {
            let accept = [("Accept", "application/vnd.eventstore.streamdesc+json")];
            send(base, "GET", &format!("/streams/{}", group.stream), &accept, "").json()["_links"].clone()
        };
        assert_eq!(described().get("streamSubscription"), None);
        assert_eq!(group.put("{}").status, 201);
        let types = ["application/vnd.eventstore.competingatom+xml", "application/vnd.eventstore.competingatom+json"];
        let expected = json!([{"href": group.path(""), "supportedContentTypes": types}]);
        assert_eq!(described()["streamSubscription"], expected);
        assert_eq!(group.send("DELETE", "", &[], "").status, 200);
        assert_eq!(described().get("streamSubscription"), None);
    })
    .await;
}

/// A node as a process, which listens where it listened before.
fn start(data: &Path, places: &Places) -> Process {
    let data = format!("--data-dir={}", data.display());
    let process = Process::start(&[&data, "--http-listen", &places.http[0], "--raft-listen", &places.raft[0]]);
    process.wait_for(&["listening"]);
    process
}

/// PS-A34, A35.
#[test]
fn what_was_acknowledged_and_stored_does_not_come_again_after_a_crash() {
    let (data, places) = (tempfile::tempdir().unwrap(), Places::new(1));
    let base = format!("http://{}", places.http[0]);
    let mut node = start(data.path(), &places);
    let group = Group::made(&base, r#"{"minCheckPointCount":1}"#);
    group.append(5);
    let taken = group.take(5);
    // The last one stands above two that are still open.
    for number in [4, 0, 1] {
        taken[number].acknowledge(&base);
    }
    block_until("the checkpoint is stored", || {
        let checkpoints = group.own_stream("checkpoint");
        checkpoints.last().is_some_and(|last| last["data"] == "1" && last["eventType"] == "SubscriptionCheckpoint")
    });
    node.signal(Signal::KILL);
    block_until("the node has ended", || node.exited().is_some());
    let _node = start(data.path(), &places);
    assert_eq!(numbers(&group.take(2)), [2, 3]);
    assert_eq!(numbers(&group.wait(1)), [0; 0]);
}

/// contract/services 3.3: a group that is made again begins anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_deleted_leaves_nothing_to_the_next_one() {
    on_a_node(|base| {
        let group = Group::made(base, r#"{"minCheckPointCount":1}"#);
        group.append(2);
        let taken = group.take(2);
        taken[0].acknowledge(base);
        taken[1].give_back(base, "?action=park");
        group.parked(1);
        assert_eq!(group.send("DELETE", "", &[], "").status, 200);
        assert_eq!((group.own_stream("parked"), group.own_stream("checkpoint")), (Vec::new(), Vec::new()));
        assert_eq!(group.put("{}").status, 201);
        assert_eq!((&group.info()["parkedMessageCount"], numbers(&group.take(2))), (&json!(0), vec![0, 1]));
    })
    .await;
}
