//! Taking messages, and settling them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Group, MESSAGES, link, messages_of, numbers, on_a_follower, on_a_node, send};

/// Messages are free again after a second.
const SHORT: &str = r#"{"messageTimeoutMilliseconds":1000}"#;

/// PS-A12 to A16.
fn messages_are_taken_and_acknowledged(base: &str) {
    let group = Group::made(base, SHORT);
    let empty = group.feed("", &[]);
    assert_eq!(empty["title"], format!("Messages for '{}/{}'", group.stream, group.name));
    assert_eq!((&empty["entries"], &empty["headOfStream"]), (&json!([]), &json!(false)));
    assert_eq!(empty["updated"], "0001-01-01T00:00:00Z");
    let own = format!("{base}{}", group.path(""));
    let only = json!([
        {"uri": format!("{own}/1"), "relation": "previous"}, {"uri": own.clone(), "relation": "self"},
    ]);
    assert_eq!((&empty["links"], &empty["id"]), (&only, &json!(own)));

    let ids = group.append(5);
    let mut first = Value::Null;
    crate::support::block_until("three messages are there at once", || {
        first = group.feed("/3", &[]);
        let taken = messages_of(&first);
        // Fewer come again when their time is up.
        taken.len() == 3 || {
            taken.iter().for_each(|message| message.give_back(base, ""));
            false
        }
    });
    let titles: Vec<&Value> = first["entries"].as_array().unwrap().iter().map(|entry| &entry["title"]).collect();
    let expected = [2, 1, 0].map(|number| format!("{number}@{}", group.stream));
    assert_eq!(titles, expected.iter().collect::<Vec<_>>());
    let relations: Vec<&Value> = first["links"].as_array().unwrap().iter().map(|link| &link["relation"]).collect();
    assert_eq!(relations, ["ackAll", "nackAll", "previous", "self"]);
    assert_eq!(link(&first, "ackAll").unwrap(), format!("{own}/ack?ids={}", ids[..3].join(",")));
    assert_eq!(link(&first, "previous").unwrap(), format!("{own}/3"));
    let entry = &first["entries"][2];
    assert_eq!(link(entry, "ack").unwrap(), format!("{own}/ack/{}", ids[0]));
    assert_eq!((&entry["summary"], &entry["id"]), (&json!("t"), &json!(format!("{base}/streams/{}/0", group.stream))));
    // What one consumer has, no other gets.
    assert_eq!(numbers(&group.take(2)), [3, 4]);

    let all = link(&first, "ackAll").unwrap();
    let done = messages_of(&first)[0].follow(base, &all);
    assert_eq!((done.status, done.reason.as_deref(), done.text()), (202, Some(""), String::new()));
    // The two that nobody acknowledged come again.
    let again = group.take(2);
    assert_eq!(numbers(&again), [3, 4]);
    again.iter().for_each(|message| message.acknowledge(base));
    assert_eq!(numbers(&group.wait(3)), [0; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_taken_and_acknowledged_on_a_single_node() {
    on_a_node(messages_are_taken_and_acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_taken_and_acknowledged_through_a_follower() {
    on_a_follower(messages_are_taken_and_acknowledged).await;
}

/// PS-A10, A11, A24, A25, A40, PL-A05; contract/services 3.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_refused_and_what_is_not_known_is_not() {
    on_a_node(|base| {
        let group = Group::made(base, "{}");
        let nobody = group.beside("none").send("GET", "", &[("Accept", MESSAGES)], "");
        assert_eq!((nobody.status, nobody.text()), (404, String::new()));
        for wrong in ["0", "101", "x", "-1", "1.5", "99999999999999999999"] {
            let answer = group.send("GET", &format!("/{wrong}"), &[("Accept", MESSAGES)], "");
            let reason = format!("Message count must be an integer between 1 and 100 'count' ='{wrong}'");
            assert_eq!((answer.status, answer.reason), (400, Some(reason)));
        }
        let html = group.send("GET", "", &[("Accept", "text/html")], "");
        let reason = "Requested URI is not available in requested format";
        assert_eq!((html.status, html.reason.as_deref()), (406, Some(reason)));
        assert_eq!(group.send("GET", "/5", &[("Accept", "text/event-stream")], "").status, 406);
        let id = Uuid::new_v4();
        for path in [
            "/ack/x".to_owned(),
            "/nack/x".to_owned(),
            "/ack?ids=zzz".to_owned(),
            format!("/nack?ids={id},"),
            "/ack".to_owned(),
        ] {
            let answer = group.post(&path);
            let reason = "messageid should be a properly formed guid";
            assert_eq!((answer.status, answer.reason.as_deref()), (400, Some(reason)), "{path}");
        }
        for known in [&group, &group.beside("none")] {
            for path in [format!("/ack/{id}"), format!("/nack/{id}?action=park"), format!("/ack?ids={id},{id}")] {
                assert_eq!(known.post(&path).status, 202, "{path}");
            }
        }
        let replayed = group.beside("none").post("/replayParked");
        let reason = format!("Unable to locate '{}::none'", group.stream);
        assert_eq!((replayed.status, replayed.reason.as_deref()), (404, Some(&*reason)));
        assert_eq!((&replayed.json()["reason"], &replayed.json()["result"]), (&json!(reason), &json!("DoesNotExist")));
        assert_eq!(group.post("/replayParked?stopAt=-1").status, 400);
    })
    .await;
}

/// PS-A17, A19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_given_back_comes_before_the_next_one() {
    on_a_node(|base| {
        let group = Group::made(base, SHORT);
        group.append(3);
        for action in ["", "?action=retry", "?action=nonsense", "?action=RETRY"] {
            let taken = group.take(1);
            assert_eq!(numbers(&taken), [0], "{action}");
            taken[0].give_back(base, action);
        }
        for (number, action) in [(0, "?action=skip"), (1, "?action=Stop")] {
            let taken = group.take(1);
            assert_eq!(numbers(&taken), [number]);
            taken[0].give_back(base, action);
        }
        group.take(1)[0].acknowledge(base);
        assert_eq!(numbers(&group.wait(3)), [0; 0]);
        assert_eq!(group.own_stream("parked"), Vec::<Value>::new());
    })
    .await;
}

/// PS-A18, A22; contract/services 3.6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_message_is_a_link_and_comes_again_when_it_is_replayed() {
    on_a_node(|base| {
        let group = Group::made(base, "{}");
        group.append(1);
        group.take(1)[0].give_back(base, "?action=Park");
        let parked = group.parked(1);
        assert_eq!((parked.len(), &parked[0]["eventType"]), (1, &json!("$>")));
        assert_eq!(parked[0]["data"], format!("0@{}", group.stream));
        let metadata: Value = serde_json::from_str(parked[0]["metaData"].as_str().unwrap()).unwrap();
        assert_eq!(metadata["reason"], "Client explicitly NAK'ed message.\nNacked from HTTP");
        assert_eq!((metadata["subscriptionEventNumber"].clone(), metadata["added"].is_string()), (json!(0), true));
        crate::support::block_until("the parked message is counted", || group.info()["parkedMessageCount"] == 1);
        assert!(group.info()["oldestParkedMessage"].is_u64());

        // Pages of what is parked.
        let view = format!("/subscriptions/viewparkedmessages/{}/{}", group.stream, group.name);
        let accept = [("Accept", "application/vnd.eventstore.atom+json")];
        for rest in ["", "/head/backward/5", "/0/backward/1", "/0/forward/5?embed=body"] {
            let page = send(base, "GET", &format!("{view}{rest}"), &accept, "");
            assert_eq!(page.status, 200, "{rest}");
            assert_eq!(page.json()["entries"][0]["title"], format!("0@{}", group.stream), "{rest}");
        }
        assert_eq!(
            send(base, "GET", &view, &[], "").header("Content-Type").unwrap(),
            "application/atom+xml; charset=utf-8"
        );
        assert_eq!(send(base, "GET", "/subscriptions/viewparkedmessages/none/none", &accept, "").status, 404);

        group.append(1);
        let replayed = group.post("/replayParked");
        assert_eq!((replayed.status, &replayed.json()["result"]), (200, &json!("Success")));
        let taken = group.take(2);
        assert_eq!(numbers(&taken), [0, 1], "the parked message comes first");
        // It is settled by the id of the link.
        assert!(taken[0].ack.ends_with(parked[0]["eventId"].as_str().unwrap()), "{taken:?}");
        taken.iter().for_each(|message| message.acknowledge(base));
        crate::support::block_until("nothing is parked", || group.info()["parkedMessageCount"] == 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_may_stop_before_a_parked_message() {
    on_a_node(|base| {
        let group = Group::made(base, SHORT);
        group.append(3);
        group.take(3).iter().for_each(|message| message.give_back(base, "?action=park"));
        group.parked(3);
        assert_eq!(group.post("/replayParked?stopAt=2").status, 200);
        let taken = group.take(2);
        assert_eq!(numbers(&taken), [0, 1]);
        taken.iter().for_each(|message| message.acknowledge(base));
        assert_eq!(numbers(&group.wait(2)), [0; 0]);
        assert_eq!(group.post("/replayParked").status, 200);
        assert_eq!(numbers(&group.take(1)), [2]);
    })
    .await;
}

/// PS-A20, A21.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_nobody_settles_comes_again_until_it_is_parked() {
    on_a_node(|base| {
        let group = Group::made(base, r#"{"messageTimeoutMilliseconds":1000,"maxRetryCount":1}"#);
        group.append(1);
        assert_eq!(numbers(&group.take(1)), [0]);
        assert_eq!(numbers(&group.wait(20)), [0], "the second and last time");
        let parked = group.parked(1);
        let metadata: Value = serde_json::from_str(parked[0]["metaData"].as_str().unwrap()).unwrap();
        assert_eq!(metadata["reason"], "Reached retry count of 1");
        assert_eq!(numbers(&group.wait(2)), [0; 0]);
    })
    .await;
}

/// PS-A26, A27, A38, A39.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_begins_where_it_is_told_and_knows_nothing_of_others() {
    on_a_node(|base| {
        let from_start = Group::made(base, "{}");
        from_start.append(3);
        let (from_end, from_two) = (from_start.beside("end"), from_start.beside("two"));
        assert_eq!(from_end.put(r#"{"startFrom":-1}"#).status, 201);
        assert_eq!(from_two.put(r#"{"startFrom":2}"#).status, 201);
        from_start.append(2);
        assert_eq!(numbers(&from_end.take(2)), [3, 4]);
        assert_eq!(numbers(&from_two.take(3)), [2, 3, 4]);
        assert_eq!(numbers(&from_start.take(5)), [0, 1, 2, 3, 4]);
    })
    .await;
}

/// PS-A28, A29, A32; contract/services 3.4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_show_as_much_as_is_asked_for_in_either_notation() {
    on_a_node(|base| {
        let target = Group::new(base);
        let ids = target.append(1);
        let links = Group::made(base, r#"{"resolveLinktos":true}"#);
        let link_id = Uuid::new_v4().to_string();
        let body = format!(r#"[{{"eventId":"{link_id}","eventType":"$>","data":"0@{}"}}]"#, target.stream);
        let headers = [("Content-Type", "application/vnd.eventstore.events+json")];
        assert_eq!(send(base, "POST", &format!("/streams/{}", links.stream), &headers, &body).status, 201);
        let mut feed = Value::Null;
        crate::support::block_until("the link is there", || {
            feed = links.feed("?embed=rich", &[]);
            feed["entries"] != json!([])
        });
        let entry = &feed["entries"][0];
        assert_eq!((&entry["eventType"], &entry["eventId"]), (&json!("t"), &json!(ids[0])));
        assert_eq!((&entry["streamId"], &entry["positionStreamId"]), (&json!(target.stream), &json!(links.stream)));
        let taken = &messages_of(&feed)[0];
        assert!(taken.ack.ends_with(&link_id), "{taken:?}");
        taken.acknowledge(base);

        let group = Group::new(base);
        group.append(1);
        for (name, accept, query) in [
            ("json", "application/json", "?embed=body"),
            ("kurrent", "application/vnd.kurrent.competingatom+json", "?embed=body"),
            ("format", "image/png", "?embed=body&format=json"),
        ] {
            let group = group.beside(name);
            assert_eq!(group.put("{}").status, 201);
            group.info();
            let answer = wait_for_one(&group, query, accept);
            let entry = &answer.json()["entries"][0];
            assert_eq!((&entry["data"], &entry["isJson"]), (&json!("{\n  \"a\": 0\n}"), &json!(true)), "{name}");
            assert_eq!((&entry["eventNumber"], entry["eventId"].is_string()), (&json!(0), true), "{name}");
            let expected = if accept == "image/png" { "application/json" } else { accept };
            assert_eq!(answer.header("Content-Type").unwrap(), format!("{expected}; charset=utf-8"));
        }
        let xml = group.beside("xml");
        assert_eq!(xml.put("{}").status, 201);
        let answer = wait_for_one(&xml, "", "*/*");
        let content_type = answer.header("Content-Type").unwrap();
        assert_eq!(content_type, "application/vnd.eventstore.competingatom+xml; charset=utf-8");
        for relation in ["ackAll", "nackAll", "previous", "self", "ack", "nack", "edit", "alternate"] {
            assert!(answer.text().contains(&format!("rel=\"{relation}\"")), "{relation} in {}", answer.text());
        }
    })
    .await;
}

/// The answer with the next message, which is there or about to come.
fn wait_for_one(group: &Group, query: &str, accept: &str) -> crate::support::client::Answer {
    let answer = group.send("GET", query, &[("Accept", accept), ("ES-LongPoll", "30")], "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// Ours: a consumer may wait for messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_ends_with_the_first_message_or_its_time() {
    on_a_node(|base| {
        let group = Group::made(base, "{}");
        let began = Instant::now();
        assert_eq!(numbers(&group.wait(1)), [0; 0]);
        assert!(began.elapsed() >= Duration::from_millis(900), "it did not wait");
        let began = Instant::now();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| group.wait(60));
            crate::support::block_until("somebody waits", || group.info()["status"].is_string());
            group.append(1);
            assert_eq!(numbers(&waiting.join().unwrap()), [0]);
        });
        assert!(began.elapsed() < Duration::from_secs(30), "it waited for its time");
        let wrong = group.send("GET", "", &[("Accept", MESSAGES), ("ES-LongPoll", "x")], "");
        assert_eq!((wrong.status, wrong.reason.as_deref()), (400, Some("ES-LongPoll header in wrong format.")));
    })
    .await;
}

/// contract/services 1.2 and 3.4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_head_request_nor_a_foreign_page_takes_messages() {
    let nodes = crate::support::nodes::Nodes::start_with_options(1, &["--head-requests"]).await;
    let base = nodes.leader();
    let ask = move || {
        let group = Group::made(&base, "{}");
        group.append(1);
        for rest in ["", "/5"] {
            assert_eq!(group.send("HEAD", rest, &[], "").status, 405, "{rest:?}");
            let foreign = [("Sec-Fetch-Site", "cross-site"), ("Accept", MESSAGES)];
            assert_eq!(group.send("GET", rest, &foreign, "").status, 403, "{rest:?}");
        }
        assert_eq!(group.send("HEAD", "/info", &[], "").status, 200);
        assert_eq!(numbers(&group.take(1)), [0]);
        assert_eq!(group.info()["totalItemsProcessed"], 1);
    };
    tokio::task::spawn_blocking(ask).await.unwrap();
    nodes.stop().await;
}
