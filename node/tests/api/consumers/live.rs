//! Groups whose messages are consumed as server-sent events. Ours, not the original's.

use serde_json::Value;

use super::{Group, JSON, basic, create_user, numbers, on_a_follower, on_a_node, send, write_metadata};
use crate::support::block_until;
use crate::support::client::{self, Live, Sent};

fn consume(group: &Group, query: &str) -> Live {
    let live = client::subscribe(&group.base, &group.path(query), &[]);
    assert_eq!(live.status, 200);
    live
}

fn data(sent: &Sent) -> Value {
    serde_json::from_str(&sent.data).unwrap()
}

fn acknowledge(group: &Group, ids: &[String]) {
    assert_eq!(group.post(&format!("/ack?ids={}", ids.join(","))).status, 202);
}

fn a_consumer_gets_as_many_messages_as_it_has_room_for(base: &str) {
    let group = Group::made(base, r#"{"extraStatistics":true}"#);
    let ids = group.append(5);
    let mut live = consume(&group, "?window=2");
    let header = |name: &str| live.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str());
    assert_eq!(header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(header("cache-control"), Some("no-store"));
    let first = live.next().unwrap();
    assert_eq!((&first.id, first.event.as_str()), (&ids[0], "t"));
    let entry = data(&first);
    assert_eq!((&entry["retryCount"], &entry["eventNumber"]), (&0.into(), &0.into()));
    let relations: Vec<&Value> = entry["links"].as_array().unwrap().iter().map(|link| &link["relation"]).collect();
    assert_eq!(relations, ["edit", "alternate", "ack", "nack"]);
    assert_eq!(live.ids(1), ids[1..2]);
    block_until("it has two messages and room for no other", || {
        let connection = group.info()["connections"][0].clone();
        connection["inFlightMessages"] == 2 && connection["availableSlots"] == 0
    });
    let info = group.info();
    let connection = &info["connections"][0];
    assert_eq!((&connection["username"], &info["totalInFlightMessages"]), (&"admin".into(), &2.into()));
    assert!(connection["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{connection}");
    assert!(connection["extraStatistics"].is_array(), "{connection}");
    acknowledge(&group, &ids[..1]);
    assert_eq!(live.ids(1), ids[2..3]);
    acknowledge(&group, &ids[1..3]);
    assert_eq!(live.ids(2), ids[3..]);
    // How long the three took that it has acknowledged.
    let statistics = group.info()["connections"][0]["extraStatistics"].clone();
    let figures = statistics.as_array().unwrap();
    let keys: Vec<&str> = figures.iter().map(|figure| figure["key"].as_str().unwrap()).collect();
    assert_eq!((keys.len(), keys[0], keys[13]), (14, "Mean", "Highest"));
    let figure = |key: &str| figures.iter().find(|figure| figure["key"] == key).unwrap()["value"].as_u64().unwrap();
    assert!(figure("Fastest") <= figure("Median") && figure("Median") <= figure("Highest"), "{statistics}");
    assert_eq!(figure("Quintile 5"), figure("Highest"));

    // What it has not settled goes to others when it leaves.
    drop(live);
    let mut next = consume(&group, "");
    let again = next.next().unwrap();
    assert_eq!((&again.id, &data(&again)["retryCount"]), (&ids[3], &1.into()));
    assert_eq!(next.ids(1), ids[4..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_gets_as_many_messages_as_it_has_room_for_on_a_single_node() {
    on_a_node(a_consumer_gets_as_many_messages_as_it_has_room_for).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_gets_as_many_messages_as_it_has_room_for_from_a_follower() {
    on_a_follower(a_consumer_gets_as_many_messages_as_it_has_room_for).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_has_so_many_consumers_and_an_update_drops_them() {
    on_a_node(|base| {
        let group = Group::made(base, r#"{"maxSubscriberCount":1}"#);
        let mut live = consume(&group, "");
        let second = group.send("GET", "", &[("Accept", "text/event-stream")], "");
        let reason = "The group has as many consumers as it may have.";
        assert_eq!((second.status, second.reason.as_deref()), (409, Some(reason)));
        for wrong in ["0", "1001", "x"] {
            let path = format!("?window={wrong}");
            assert_eq!(group.send("GET", &path, &[("Accept", "text/event-stream")], "").status, 400, "{wrong}");
        }
        assert_eq!(client::subscribe(base, &group.beside("none").path(""), &[]).status, 404);
        group.append(1);
        assert_eq!(data(&live.next().unwrap())["eventNumber"], 0);
        assert_eq!(group.send("POST", "", &[("Content-Type", JSON)], "{}").status, 200);
        assert_eq!(live.next(), None, "it was dropped");
        let mut again = consume(&group, "");
        assert_eq!(data(&again.next().unwrap())["eventNumber"], 0);
        assert_eq!(group.send("DELETE", "", &[], "").status, 200);
        assert_eq!(again.next(), None, "the group is gone");
    })
    .await;
}

/// A large message comes in several pieces, and between small ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_come_whole() {
    on_a_node(|base| {
        let group = Group::made(base, "{}");
        group.append(1);
        let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(3 * 1024 * 1024));
        let id = uuid::Uuid::new_v4().to_string();
        let headers = [("Content-Type", JSON), ("ES-EventType", "large"), ("ES-EventId", id.as_str())];
        let path = format!("/streams/{}", group.stream);
        assert_eq!(send(base, "POST", &path, &headers, &large).status, 201);
        group.append(1);
        let mut live = consume(&group, "");
        let sent: Vec<Sent> = (0..3).map(|_| live.next().unwrap()).collect();
        let told: Vec<usize> = sent.iter().map(|sent| data(sent)["data"].as_str().unwrap().len()).collect();
        assert!(told[0] < 100 && told[1] > 3 * 1024 * 1024 && told[2] < 100, "{told:?}");
        drop(live);
        let fetched = group.take(3);
        assert_eq!(numbers(&fetched), [0, 1, 2]);
        let by_feed = group.beside("feed");
        assert_eq!(by_feed.put("{}").status, 201);
        let mut lengths = Vec::new();
        block_until("all messages are there", || {
            let feed = by_feed.feed("/3?embed=body", &[("ES-LongPoll", "5")]);
            let entries = feed["entries"].as_array().unwrap();
            lengths.extend(entries.iter().rev().map(|entry| entry["data"].as_str().unwrap().len()));
            lengths.len() == 3
        });
        assert_eq!(lengths, told);
    })
    .await;
}

/// A consumer that loses its right gets nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_may_not_read_any_more_is_dropped() {
    on_a_node(|base| {
        create_user(base, "reader");
        let group = Group::made(base, "{}");
        group.append(1);
        let login = [("Authorization", basic("reader"))];
        let mut live = client::subscribe(base, &group.path(""), &login);
        assert_eq!((live.status, live.ids(1).len()), (200, 1));
        write_metadata(base, &group.stream, r#"{"$acl":{"$r":"$admins"}}"#);
        group.append(1);
        assert_eq!(live.next(), None);
        assert_eq!(numbers(&group.take(2)), [0, 1]);
    })
    .await;
}
