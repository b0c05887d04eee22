//! Making, changing and deleting groups.

use super::{Group, JSON, OPS, basic, create_user, link, numbers, on_a_follower, on_a_node, send, write_metadata};
use crate::support::block_until;
use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;

/// The outcome that a change tells of.
fn outcome(answer: &Answer) -> (u16, String, String) {
    let document = answer.json();
    assert!(uuid::Uuid::parse_str(document["correlationId"].as_str().unwrap()).is_ok(), "{document}");
    let text = |name: &str| document[name].as_str().unwrap().to_owned();
    (answer.status, text("result"), text("reason"))
}

fn expected(status: u16, result: &str, reason: &str) -> (u16, String, String) {
    (status, result.to_owned(), reason.to_owned())
}

fn leads_to(group: &Group, answer: &Answer) -> bool {
    answer.header("Location").as_deref() == Some(&format!("{}{}", group.base, group.path("")))
}

/// PS-A01, A02, A08, A09, A36.
fn groups_are_made_changed_and_deleted(base: &str) {
    let group = Group::new(base);
    let post = |settings: &str| group.send("POST", "", &[("Content-Type", JSON)], settings);
    let missing = format!("Group '{}' does not exist.", group.name);

    let answer = post("{}");
    assert_eq!(outcome(&answer), expected(404, "DoesNotExist", &missing));
    assert!(leads_to(&group, &answer));
    let answer = group.put("{}");
    assert_eq!(outcome(&answer), expected(201, "Success", ""));
    assert!(leads_to(&group, &answer));
    let answer = group.put("{}");
    assert_eq!(outcome(&answer), expected(409, "AlreadyExists", &format!("Group '{}' already exists.", group.name)));
    assert!(leads_to(&group, &answer));

    let answer = post(r#"{"maxRetryCount":3}"#);
    assert_eq!(outcome(&answer), expected(200, "Success", ""));
    assert!(leads_to(&group, &answer));
    assert_eq!(group.info()["config"]["maxRetryCount"], 3);
    // What an update does not say is the default again.
    post(r#"{"bufferSize":70}"#);
    let config = group.info()["config"].clone();
    assert_eq!((&config["maxRetryCount"], &config["bufferSize"]), (&10.into(), &70.into()));

    let nope = r#"{"namedConsumerStrategy":"Nope"}"#;
    let unknown = "Consumer strategy Nope does not exist.";
    assert_eq!(outcome(&post(nope)), expected(500, "Fail", unknown));
    // A group that exists comes before its strategy.
    assert_eq!(outcome(&group.put(nope)).1, "AlreadyExists");

    let answer = group.send("DELETE", "", &[], "");
    assert_eq!(outcome(&answer), expected(200, "Success", ""));
    assert_eq!(answer.header("Location"), None);
    assert_eq!(outcome(&group.send("DELETE", "", &[], "")), expected(404, "DoesNotExist", &missing));
    assert_eq!(outcome(&post(nope)), expected(404, "DoesNotExist", &missing));
    let answer = group.put(nope);
    assert_eq!(outcome(&answer), expected(500, "Fail", unknown));
    assert!(leads_to(&group, &answer));
    assert_eq!(group.send("GET", "/info", &[], "").status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_made_changed_and_deleted_on_a_single_node() {
    on_a_node(groups_are_made_changed_and_deleted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_made_changed_and_deleted_through_a_follower() {
    on_a_follower(groups_are_made_changed_and_deleted).await;
}

/// PS-A03 to A06, A37, PL-A04.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_taken_over_or_refused_with_their_reason() {
    on_a_node(|base| {
        let defaults = serde_json::json!({
            "resolveLinktos": false, "startFrom": 0, "messageTimeoutMilliseconds": 10000, "extraStatistics": false,
            "maxRetryCount": 10, "liveBufferSize": 500, "bufferSize": 500, "readBatchSize": 20,
            "preferRoundRobin": true, "checkPointAfterMilliseconds": 1000, "minCheckPointCount": 10,
            "maxCheckPointCount": 500, "maxSubscriberCount": 10, "namedConsumerStrategy": "RoundRobin",
        });
        for body in ["{}", "", "garbage", r#"{"maxSubscriberCount":0,"unknown":1}"#] {
            assert_eq!(Group::made(base, body).info()["config"], defaults, "{body}");
        }
        let mut all = serde_json::json!({
            "resolveLinktos": true, "startFrom": 3, "messageTimeoutMilliseconds": 5000, "extraStatistics": true,
            "maxRetryCount": 2, "liveBufferSize": 100, "bufferSize": 50, "readBatchSize": 10,
            "minCheckPointCount": 1, "maxCheckPointCount": 5, "checkPointAfterMilliseconds": 500,
            "maxSubscriberCount": 3, "namedConsumerStrategy": "Pinned",
        });
        let group = Group::made(base, &all.to_string());
        all["preferRoundRobin"] = false.into();
        assert_eq!(group.info()["config"], all);

        for (body, reason) in [
            (r#"{"bufferSize":10,"readBatchSize":20}"#, "BufferSize (10) must be larger than ReadBatchSize (20)"),
            (r#"{"bufferSize":-1}"#, "Buffer Size (-1) must be positive"),
            (r#"{"liveBufferSize":-1}"#, "Live Buffer Size (-1) must be positive"),
            (r#"{"readBatchSize":-1}"#, "Read Batch Size (-1) must be positive"),
        ] {
            let refused = Group::new(base).put(body);
            assert_eq!((refused.status, refused.reason.as_deref()), (400, Some(reason)));
        }
        let untyped = Group::new(base).send("PUT", "", &[], "{}");
        assert_eq!((untyped.status, untyped.reason.as_deref()), (415, Some("Invalid or missing Content-Type")));
        let large = Group::new(base).put(&" ".repeat(16 * 1024 + 1));
        assert_eq!(large.status, 413);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_and_answers_may_be_xml() {
    on_a_node(|base| {
        let group = Group::new(base);
        let xml = [("Content-Type", "text/xml"), ("Accept", "text/xml")];
        let body = "<config><maxSubscriberCount>0</maxSubscriberCount><bufferSize>77</bufferSize></config>";
        let made = group.send("PUT", "", &xml, body);
        assert_eq!((made.status, made.header("Content-Type").as_deref()), (201, Some("text/xml; charset=utf-8")));
        assert!(made.text().contains("<reason></reason><result>Success</result>"), "{}", made.text());
        let config = group.info()["config"].clone();
        assert_eq!((&config["maxSubscriberCount"], &config["bufferSize"]), (&0.into(), &77.into()));
        let info = group.send("GET", "/info", &[("Accept", "text/xml")], "").text();
        assert!(info.contains("<config><resolveLinktos>false</resolveLinktos>"), "{info}");
        let list = send(base, "GET", "/subscriptions", &[("Accept", "text/xml")], "").text();
        assert!(list.starts_with("<subscriptions><subscription><links><href>"), "{list}");
    })
    .await;
}

/// PS-A07, A33; contract/services 1.3 and 1.6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_manage_groups_and_readers_of_the_stream_consume() {
    on_a_node(|base| {
        for user in ["reader", "other"] {
            create_user(base, user);
        }
        let group = Group::new(base);
        let (reader, other) = (basic("reader"), basic("other"));
        let put = |login: &[(&str, &str)]| {
            let headers = [&[("Content-Type", JSON)], login].concat();
            let headers: Vec<(&str, String)> = headers.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
            client::send(base, "PUT", &group.path(""), &headers, b"{}")
        };
        for login in [&[][..], &[("Authorization", reader.as_str())]] {
            let denied = put(login);
            assert_eq!(
                outcome(&denied),
                expected(401, "AccessDenied", "You do not have permissions to create streams")
            );
            assert!(leads_to(&group, &denied) && denied.header("WWW-Authenticate").is_some());
        }
        assert_eq!(put(&[("Authorization", OPS)]).status, 201);
        let as_reader = [("Authorization", reader.as_str())];
        for (method, rest) in [("POST", ""), ("DELETE", ""), ("POST", "/replayParked")] {
            let headers = [&as_reader[..], &[("Content-Type", JSON)]].concat();
            let denied = group.send(method, rest, &headers, if rest.is_empty() { "{}" } else { "" });
            assert_eq!(outcome(&denied).1, "AccessDenied", "{method} {rest}");
        }
        let restart = send(base, "POST", "/subscriptions/restart", &as_reader, "");
        assert_eq!(outcome(&restart).1, "AccessDenied");
        assert_eq!(send(base, "POST", "/subscriptions/restart", &[("Authorization", OPS)], "").status, 200);

        group.append(1);
        write_metadata(base, &group.stream, r#"{"$acl":{"$r":"reader"}}"#);
        let as_other = [("Authorization", other.as_str())];
        let id = uuid::Uuid::new_v4();
        let listed = format!("/subscriptions/{}", group.stream);
        for rest in ["".to_owned(), "/3".to_owned(), "/info".to_owned()] {
            assert_eq!(group.send("GET", &rest, &as_other, "").status, 401, "{rest}");
            assert_eq!(group.send("GET", &rest, &as_reader, "").status, 200, "{rest}");
        }
        for rest in [format!("/ack/{id}"), format!("/nack?ids={id}")] {
            assert_eq!(group.send("POST", &rest, &as_other, "").status, 401, "{rest}");
            assert_eq!(group.send("POST", &rest, &as_reader, "").status, 202, "{rest}");
        }
        let others = send(base, "GET", &listed, &as_other, "");
        assert_eq!((others.status, others.text()), (404, "[]".to_owned()));
        assert_eq!(send(base, "GET", &listed, &as_reader, "").json().as_array().unwrap().len(), 1);
    })
    .await;
}

/// contract/services 1.3: who may manage groups is what one access list says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_list_says_who_may_manage_groups() {
    on_a_follower(|base| {
        create_user(base, "lead");
        let (lead, document) = (basic("lead"), "$persistentSubscriptionConfig");
        let group = Group::new(base);
        let status = |login: &str, method: &str, path: &str, body: &str| {
            send(base, method, path, &[("Authorization", login), ("Content-Type", JSON)], body).status
        };
        let (own, other) = (group.path(""), group.beside("other").path(""));
        let nope = r#"{"namedConsumerStrategy":"Nope"}"#;
        assert_eq!((status(&lead, "PUT", &own, "{}"), status(OPS, "PUT", &other, nope)), (401, 500));

        write_metadata(base, document, r#"{"$acl":{"$w":["lead"]},"mine":1}"#);
        assert_eq!(status(&lead, "PUT", &own, "{}"), 201);
        assert_eq!((status(&lead, "POST", &own, "{}"), status(&lead, "PUT", &other, nope)), (200, 500));
        assert_eq!(status(&lead, "POST", &group.path("/replayParked"), ""), 200);
        assert_eq!(status(&lead, "POST", "/subscriptions/restart", ""), 200);
        for (method, path, body) in
            [("PUT", &other, "{}"), ("PUT", &other, nope), ("POST", &own, "{}"), ("DELETE", &own, "")]
        {
            assert_eq!(status(OPS, method, path, body), 401, "{method} {path} {body}");
        }
        assert_eq!(status(client::ADMIN, "POST", &own, "{}"), 200, "administrators always may");

        // The document comes a second later, and leaves the list as it is.
        let newest = format!("/streams/{document}/head/backward/1?embed=body");
        block_until("the document is written", || {
            let newest = send(base, "GET", &newest, &[("Accept", "application/vnd.eventstore.atom+json")], "");
            newest.status == 200 && newest.text().contains(&group.name)
        });
        let metadata = send(base, "GET", &format!("/streams/{document}/metadata"), &[("Accept", JSON)], "").json();
        let expected = serde_json::json!({"$acl": {"$w": ["lead"]}, "mine": 1, "$maxCount": 2});
        assert_eq!(metadata, expected);

        // A list that does not say who writes is none, and those of `$settings` are about streams.
        write_metadata(base, document, r#"{"$acl":{"$r":["lead"]}}"#);
        let id = uuid::Uuid::new_v4().to_string();
        let headers = [("Content-Type", JSON), ("ES-EventType", "$settings"), ("ES-EventId", id.as_str())];
        let settings = r#"{"$systemStreamAcl":{"$w":["lead"]}}"#;
        assert_eq!(send(base, "POST", "/streams/$settings", &headers, settings).status, 201);
        assert_eq!((status(&lead, "DELETE", &own, ""), status(OPS, "DELETE", &own, "")), (401, 200));
    })
    .await;
}

/// contract/services 3.3: the streams of a group have both of its names in theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_divide_in_two_ways_stand_for_one_group_and_the_refusal_says_which() {
    on_a_node(|base| {
        let of = |stream: &str, name: &str| Group {
            base: base.to_owned(),
            stream: stream.to_owned(),
            name: name.to_owned(),
        };
        let (first, second) = (of("a::b", "c"), of("a", "b::c"));
        assert_eq!(first.put("{}").status, 201);
        let reason = "The group 'c' of 'a::b' has the streams of this one: choose another name.";
        assert_eq!(outcome(&second.put("{}")), expected(409, "AlreadyExists", reason));
        for method in ["POST", "DELETE"] {
            let answer = second.send(method, "", &[("Content-Type", JSON)], "{}");
            assert_eq!(outcome(&answer), expected(404, "DoesNotExist", "Group 'b::c' does not exist."));
        }
        assert_eq!(second.send("GET", "/info", &[], "").status, 404);
        assert_eq!(first.info()["groupName"], "c");
        assert_eq!(first.send("DELETE", "", &[], "").status, 200);
        assert_eq!(second.put("{}").status, 201);
    })
    .await;
}

/// contract/services 3.3: `$all` is read by no group over HTTP, and metastreams may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_all_events_has_no_groups() {
    on_a_node(|base| {
        let group = Group { base: base.to_owned(), stream: "$all".to_owned(), name: "g".to_owned() };
        let refused = group.put("{}");
        assert_eq!(outcome(&refused), expected(500, "Fail", "Bad stream name."));
        let path = "/subscriptions/$$books/g";
        assert_eq!(send(base, "PUT", path, &[("Content-Type", JSON)], "{}").status, 201);
        write_metadata(base, "books", r#"{"shelf":1}"#);
        let books = Group { base: base.to_owned(), stream: "$$books".to_owned(), name: "g".to_owned() };
        assert_eq!(books.take(1)[0].title, "0@$$books");
    })
    .await;
}

/// Names are any text, and literal parts of paths win over them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_have_any_names() {
    on_a_node(|base| {
        let plain = Group::new(base);
        plain.append(1);
        for name in ["a%2Fb", "%C3%A9%20%2B", "info", "1", "ack", "replayParked", "%3A%3A", "a%3Fb%25"] {
            let group = plain.beside(name);
            assert_eq!(group.put("{}").status, 201, "{name}");
            let taken = group.take(1);
            assert!(taken[0].ack.contains(&format!("/subscriptions/{}/{name}/ack/", plain.stream)), "{}", taken[0].ack);
            taken[0].acknowledge(base);
            let feed = group.feed("", &[]);
            assert_eq!(link(&feed, "self").unwrap(), format!("{base}{}", group.path("")));
            assert_eq!(group.info()["eventStreamId"], plain.stream.as_str());
        }
        // A stream with the name of a route.
        let restart = Group { base: base.to_owned(), stream: "restart".to_owned(), name: "g".to_owned() };
        assert_eq!(restart.put("{}").status, 201);
        restart.append(2);
        assert_eq!(numbers(&restart.take(2)), [0, 1]);
        let listed = send(base, "GET", "/subscriptions/restart", &[("Accept", JSON)], "");
        assert_eq!(listed.json().as_array().unwrap().len(), 1);
    })
    .await;
}

/// contract/services 3.5 and 3.6: what no leader has heard of is not accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_leader_nothing_is_accepted() {
    let mut nodes = Nodes::new(3, &[] as &[&str]);
    nodes.start_node(0).await;
    let group = Group::new(&nodes.base(0));
    let ask = move || {
        let id = uuid::Uuid::new_v4();
        let requests = [
            ("GET", group.path("")),
            ("GET", group.path("/3")),
            ("GET", group.path("/info")),
            ("GET", "/subscriptions".to_owned()),
            ("GET", "/subscriptions?offset=0".to_owned()),
            ("POST", group.path(&format!("/ack/{id}"))),
            ("POST", group.path(&format!("/nack?ids={id}"))),
            ("POST", group.path("/replayParked")),
            ("POST", "/subscriptions/restart".to_owned()),
            ("PUT", group.path("")),
            ("DELETE", group.path("")),
        ];
        // Each waits for a leader.
        std::thread::scope(|scope| {
            for (method, path) in &requests {
                let base = &group.base;
                scope.spawn(move || {
                    let answer = client::send(base, method, path, &[("Content-Type", JSON.to_owned())], b"");
                    let is_to_come_again = answer.header("Retry-After").is_some();
                    assert_eq!((answer.status, is_to_come_again), (503, true), "{method} {path}");
                    let body = if path == "/subscriptions" { "[]" } else { "" };
                    assert_eq!(answer.text(), body, "{method} {path}");
                });
            }
        });
    };
    tokio::task::spawn_blocking(ask).await.unwrap();
    nodes.stop().await;
}
