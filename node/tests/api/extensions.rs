//! Extensions that need more than the table: options, live answers.

use std::time::{Duration, Instant};

use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;

const ATOM_JSON: &str = "application/vnd.eventstore.atom+json";

fn get(base: &str, method: &str, path: &str, accept: &str) -> Answer {
    let headers = [("Accept", accept.to_owned()), ("Authorization", client::ADMIN.to_owned())];
    client::send(base, method, path, &headers, b"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_is_answered_like_get_when_the_option_is_set() {
    let nodes = Nodes::start_with_options(1, &["--head-requests"]).await;
    let base = nodes.leader();
    let compare = move || {
        assert_eq!(crate::append_bytes(&base, "headed", b"x").status, 201);
        for (path, accept, status) in [
            ("/streams/headed", ATOM_JSON, 200),
            ("/streams/headed/0", "application/json", 200),
            ("/streams/headed/metadata", "application/json", 200),
            ("/streams/headed/0/forward/5", ATOM_JSON, 200),
            ("/streams/missing", ATOM_JSON, 404),
            ("/streams/headed", "image/png", 406),
            ("/ping", "*/*", 200),
        ] {
            let full = get(&base, "GET", path, accept);
            let head = get(&base, "HEAD", path, accept);
            assert_eq!((full.status, head.status), (status, status), "{path}");
            let described = ["Content-Type", "ETag", "Cache-Control"];
            // An answer without a body need not say so.
            for name in described.into_iter().chain((status == 200).then_some("Content-Length")) {
                assert_eq!(head.header(name), full.header(name), "{name} of {path}");
            }
            assert_eq!(head.text(), "", "{path}");
        }
        assert_eq!(get(&base, "HEAD", "/streams/headed/incoming/x", ATOM_JSON).status, 400);
    };
    tokio::task::spawn_blocking(compare).await.unwrap();
    nodes.stop().await;
}

fn append(base: &str, stream: &str, event_type: &str, data: &str) {
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("ES-EventType", event_type.to_owned()),
        ("ES-EventId", uuid::Uuid::new_v4().to_string()),
    ];
    let answer = client::send(base, "POST", &format!("/streams/{stream}"), &headers, data.as_bytes());
    assert_eq!(answer.status, 201);
}

fn write_metadata(base: &str, stream: &str, metadata: &str) {
    let headers = [("Content-Type", "application/json".to_owned()), ("ES-EventId", uuid::Uuid::new_v4().to_string())];
    let answer = client::send(base, "POST", &format!("/streams/{stream}/metadata"), &headers, metadata.as_bytes());
    assert_eq!(answer.status, 201);
}

/// Data written through `writer` is read from `reader`.
fn a_subscription_has_the_past_and_then_the_present(writer: &str, reader: &str) {
    append(writer, "told", "first", "{\"n\": 0}");
    append(writer, "told", "second", "{\"n\": 1}");
    let mut live = client::subscribe(reader, "/streams/told", &[]);
    assert_eq!(live.status, 200);
    let content_type = live.headers.iter().find(|(name, _)| name == "content-type").unwrap();
    assert_eq!(content_type.1, "text/event-stream; charset=utf-8");
    for (id, event) in [("0", "first"), ("1", "second")] {
        let sent = live.next().unwrap();
        assert_eq!((sent.id.as_str(), sent.event.as_str()), (id, event));
        let data: serde_json::Value = serde_json::from_str(&sent.data).unwrap();
        assert_eq!((data["eventNumber"].to_string(), data["streamId"].as_str()), (id.to_owned(), Some("told")));
        assert_eq!(data["data"], format!("{{\"n\": {id}}}"));
    }
    append(writer, "told", "third", "{\"n\": 2}");
    assert_eq!(live.next().unwrap().event, "third");

    // Where to begin.
    let ids = |path: &str, headers: &[(&str, String)], count| client::subscribe(reader, path, headers).ids(count);
    assert_eq!(ids("/streams/told?from=1", &[], 2), ["1", "2"]);
    assert_eq!(ids("/streams/told?from=0", &[("Last-Event-ID", "1".to_owned())], 1), ["2"]);
    let mut from_head = client::subscribe(reader, "/streams/told?from=head", &[]);
    let mut not_there_yet = client::subscribe(reader, "/streams/born-later", &[]);
    append(writer, "told", "fourth", "{}");
    append(writer, "born-later", "first", "{}");
    assert_eq!((from_head.ids(1), not_there_yet.ids(1)), (vec!["3".to_owned()], vec!["0".to_owned()]));
    for (path, last, reason) in [
        ("/streams/told?from=x", "", "'x' is not valid event number"),
        ("/streams/told", "-1", "'-1' is not valid event number"),
        ("/streams/$all?from=7", "", "Invalid position argument: 7"),
    ] {
        let accept = ("Accept", "text/event-stream".to_owned());
        let headers = [accept, ("Last-Event-ID", last.to_owned()), ("Authorization", client::ADMIN.to_owned())];
        let answer = client::send(reader, "GET", path, &headers, b"");
        assert_eq!((answer.status, answer.reason.as_deref()), (400, Some(reason)));
    }

    // Hidden events are not sent, and links are resolved.
    write_metadata(writer, "told", "{\"$maxCount\": 2}");
    let position = append_link(writer, "linked", "3@told");
    let headers = [("ES-MinPosition", position)];
    assert_eq!(ids("/streams/told", &headers, 2), ["2", "3"]);
    let resolved = client::subscribe(reader, "/streams/linked", &headers).next().unwrap();
    assert_eq!((resolved.id.as_str(), resolved.event.as_str()), ("0", "fourth"));
    let unresolved =
        client::subscribe(reader, "/streams/linked?embed=content", &[("ES-ResolveLinkTos", "false".to_owned())]);
    let unresolved = { unresolved }.next().unwrap();
    assert_eq!((unresolved.id.as_str(), unresolved.event.as_str()), ("0", "$>"));

    // A link to an event that no caller may read ends no subscription.
    let position = append_link(writer, "sealed", "0@$$$$told");
    let shown = client::subscribe(reader, "/streams/sealed", &[("ES-MinPosition", position)]).next().unwrap();
    assert_eq!((shown.id.as_str(), shown.event.as_str()), ("0", "$>"));
    assert!(shown.data.contains("\"title\": \"0@$$$$told\"") && !shown.data.contains("eventId"), "{}", shown.data);

    // The log of all events goes on as well.
    let mut all = client::subscribe(reader, "/streams/$all", &headers);
    let first = all.next().unwrap();
    assert_eq!(first.id.len(), 32);
    let mut ids = vec![first.id.clone()];
    while let Some(sent) = all.next() {
        ids.push(sent.id);
        if sent.event == "fourth" && sent.data.contains("\"title\": \"3@told\"") && sent.data.contains("linked") {
            break;
        }
    }
    assert!(ids.is_sorted() && ids.len() > 5, "{ids:?}");
    let again = client::subscribe(reader, "/streams/$all", &[("Last-Event-ID", first.id)]).ids(ids.len() - 1);
    assert_eq!(again, ids[1..]);

    // There, too, links are shown as they are stored to those who ask for it.
    let as_stored = [("ES-ResolveLinkTos", "false".to_owned()), headers[0].clone()];
    for path in ["/streams/$all", "/streams/$all/filtered?context=streamid&type=prefix&data=linked"] {
        let mut all = client::subscribe(reader, path, &as_stored);
        let link = std::iter::from_fn(|| all.next()).find(|sent| sent.data.contains("linked")).unwrap();
        assert_eq!(link.event, "$>", "{path}: {}", link.data);
        assert!(link.data.contains("\"title\": \"0@linked\""), "{path}: {}", link.data);
    }

    // A filter leaves out the rest, also of later events.
    let path = "/streams/$all/filtered?context=streamid&type=regex&data=%5Etold%24&exclude-system-events=true";
    let mut filtered = client::subscribe(reader, path, &headers);
    let types: Vec<String> = (0..4).map(|_| filtered.next().unwrap().event).collect();
    assert_eq!(types, ["first", "second", "third", "fourth"]);
    append(writer, "born-later", "second", "{}");
    append(writer, "told", "fifth", "{}");
    assert_eq!(filtered.next().unwrap().event, "fifth");

    // Deleted for good: the answer ends, and there is no other.
    let hard = [("ES-HardDelete", "true".to_owned())];
    assert_eq!(client::send(writer, "DELETE", "/streams/told", &hard, b"").status, 204);
    while let Some(sent) = live.next() {
        assert!(["fourth", "fifth"].contains(&sent.event.as_str()), "{sent:?}");
    }
    assert_eq!(client::subscribe(reader, "/streams/told", &[]).status, 410);
}

/// Writes a link and answers with its position.
fn append_link(base: &str, stream: &str, to: &str) -> String {
    let body = serde_json::json!([{"eventId": uuid::Uuid::new_v4().to_string(), "eventType": "$>", "data": to}]);
    let headers = [("Content-Type", "application/vnd.eventstore.events+json".to_owned())];
    let answer = client::send(base, "POST", &format!("/streams/{stream}"), &headers, body.to_string().as_bytes());
    assert_eq!(answer.status, 201);
    answer.header("ES-Position").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_on_a_single_node_end_with_it() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let open = tokio::task::spawn_blocking(move || {
        a_subscription_has_the_past_and_then_the_present(&base, &base);
        append(&base, "open", "t", "{}");
        let mut open = client::subscribe(&base, "/streams/open", &[]);
        assert_eq!(open.ids(1), ["0"]);
        open
    });
    let mut open = open.await.unwrap();
    let stopping = Instant::now();
    nodes.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(4), "the open subscription held the node up");
    assert_eq!(open.next(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_are_served_by_followers() {
    let nodes = Nodes::start(3).await;
    let (leader, follower) = (nodes.leader(), nodes.follower());
    let talk = move || a_subscription_has_the_past_and_then_the_present(&leader, &follower);
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_event_reaches_subscribers_between_small_ones() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        let large = format!("\"{}\"", "x".repeat(1 << 20));
        for data in ["1", &large, "2"] {
            append(&base, "mixed", "t", data);
        }
        let mut live = client::subscribe(&base, "/streams/mixed", &[]);
        let sizes: Vec<bool> = (0..3).map(|_| live.next().unwrap().data.len() > 1 << 20).collect();
        assert_eq!(sizes, [false, true, false]);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

/// Events of the stream `of` as titles, page by page from `first` on, and the number of pages.
fn walk(base: &str, first: &str, relation: &str) -> (Vec<String>, usize) {
    let (mut titles, mut pages) = (Vec::new(), 0);
    let mut path = Some(first.to_owned());
    while let Some(at) = path.take() {
        let page = get(base, "GET", &at, ATOM_JSON);
        assert_eq!(page.status, 200, "{at}");
        let page = page.json();
        pages += 1;
        let entries = page["entries"].as_array().unwrap();
        let mut found: Vec<String> = entries.iter().map(|entry| entry["title"].as_str().unwrap().to_owned()).collect();
        if relation == "previous" {
            found.reverse();
        }
        titles.extend(found);
        let links = page["links"].as_array().unwrap();
        let link = links.iter().find(|link| link["relation"] == relation);
        path = link.map(|link| link["uri"].as_str().unwrap().strip_prefix(base).unwrap().to_owned());
        assert!(pages < 10_000, "the walk does not end");
    }
    (titles, pages)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filtered_pages_look_at_a_bounded_number_of_events_and_lead_on() {
    const BETWEEN: usize = 18_000;
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        let many = |count: usize| {
            let event =
                || serde_json::json!({"eventId": uuid::Uuid::new_v4().to_string(), "eventType": "noise", "data": {}});
            let body = serde_json::Value::Array((0..count).map(|_| event()).collect()).to_string();
            let headers = [("Content-Type", "application/vnd.eventstore.events+json".to_owned())];
            assert_eq!(client::send(&base, "POST", "/streams/noise", &headers, body.as_bytes()).status, 201);
        };
        append(&base, "rare", "t", "{}");
        many(BETWEEN);
        append(&base, "rare", "t", "{}");
        append(&base, "rare", "t", "{}");
        let query = "?context=streamid&type=prefix&data=rare";
        let (backward, pages) = walk(&base, &format!("/streams/$all/filtered{query}"), "next");
        assert_eq!((backward, pages), (vec!["2@rare".to_owned(), "1@rare".to_owned(), "0@rare".to_owned()], 2));
        let start = "0".repeat(32);
        let (forward, pages) = walk(&base, &format!("/streams/$all/filtered/{start}/forward/2{query}"), "previous");
        assert_eq!(forward, ["0@rare", "1@rare", "2@rare"]);
        assert!((3..=4).contains(&pages), "{pages} pages");
        // Of a subscription they are one stretch.
        let path = format!("/streams/$all/filtered{query}");
        let events: Vec<String> = {
            let mut live = client::subscribe(&base, &path, &[]);
            (0..4).map(|_| live.next_id().unwrap()).map(|sent| format!("{} {}", sent.id, sent.event)).collect()
        };
        let ids: Vec<&str> = events.iter().map(|event| event.split(' ').next().unwrap()).collect();
        assert!(ids.is_sorted(), "{events:?}");
        let types: Vec<&str> = events.iter().map(|event| event.split(' ').nth(1).unwrap()).collect();
        // After a long way without events the subscriber hears how far it has come.
        assert_eq!(types, ["t", "", "t", "t"]);
        let from_there = [("Last-Event-ID", ids[1].to_owned())];
        assert_eq!(client::subscribe(&base, &path, &from_there).ids(2), ids[2..]);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

/// An event whose type is `so_many` letters, `a` or `b` by chance, and ends so. Expressions that
/// look back are slow for it.
fn slow_to_match(so_many: usize, end: &str) -> serde_json::Value {
    let mut event_type = String::new();
    while event_type.len() < so_many {
        event_type.extend(uuid::Uuid::new_v4().as_bytes().iter().map(|byte| if byte & 1 == 0 { 'a' } else { 'b' }));
    }
    event_type.truncate(so_many);
    event_type.push_str(end);
    serde_json::json!({"eventId": uuid::Uuid::new_v4().to_string(), "eventType": event_type, "data": {}})
}

/// All events of an export, and how many pages it had.
fn export(base: &str, query: &str) -> (Vec<serde_json::Value>, usize) {
    let (mut events, mut pages, mut from) = (Vec::new(), 0, 0);
    loop {
        let answer = get(base, "GET", &format!("/admin/export{query}&from={from}"), "*/*");
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut lines: Vec<serde_json::Value> =
            answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let page = &lines.pop().unwrap()["page"];
        events.append(&mut lines);
        pages += 1;
        assert!(page["next"].as_u64() > Some(from), "{page}");
        from = page["next"].as_u64().unwrap();
        if from >= page["end"].as_u64().unwrap() {
            return (events, pages);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_takes_long_gets_short_pages_whose_links_lead_on() {
    const EVENTS: usize = 1_200;
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        let wanted = format!("a{}c", "b".repeat(300));
        let mut events = vec![slow_to_match(0, &wanted)];
        events.extend((0..EVENTS).map(|_| slow_to_match(900, "")));
        let body = serde_json::Value::Array(events).to_string();
        let headers = [("Content-Type", "application/vnd.eventstore.events+json".to_owned())];
        assert_eq!(client::send(&base, "POST", "/streams/slow", &headers, body.as_bytes()).status, 201);
        let query = "?context=eventtype&type=regex&data=%5Bab%5D*a%5Bab%5D%7B300%7Dc";
        let (found, pages) = walk(&base, &format!("/streams/$all/filtered{query}"), "next");
        assert_eq!(found, ["0@slow"]);
        assert!(pages > 1, "one page has looked at all {EVENTS} events");
        let mut live = client::subscribe(&base, &format!("/streams/$all/filtered{query}"), &[]);
        assert_eq!(live.next().unwrap().event, wanted);
        let (exported, pages) = export(&base, query);
        let types: Vec<&str> = exported.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(types, [wanted]);
        assert!(pages > 1, "one page of an export has looked at all {EVENTS} events");
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_filtered_page_has_the_entries_that_the_log_has() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        append(&base, "wanted", "t", r#""small""#);
        append(&base, "other", "t", "{}");
        // Longer than one part of an answer.
        append(&base, "wanted", "t", &format!("\"{}\"", "x".repeat(700 * 1024)));
        append(&base, "wanted", "t", r#""behind""#);
        let entries = |path: &str| -> Vec<serde_json::Value> {
            let page = get(&base, "GET", path, ATOM_JSON);
            assert_eq!(page.status, 200, "{path}");
            let entries = page.json()["entries"].as_array().unwrap().clone();
            entries.into_iter().filter(|entry| entry["title"].as_str().unwrap().ends_with("@wanted")).collect()
        };
        let start = "0".repeat(32);
        let query = "?context=streamid&type=prefix&data=wanted&embed=body";
        let filtered = entries(&format!("/streams/$all/filtered/{start}/forward/20{query}"));
        let all = entries(&format!("/streams/$all/{start}/forward/4096?embed=body"));
        let titles: Vec<&str> = filtered.iter().map(|entry| entry["title"].as_str().unwrap()).collect();
        assert_eq!(titles, ["1@wanted", "0@wanted"], "a large event ends a page");
        assert_eq!(all.len(), 3);
        assert!(filtered == all[1..], "the entries differ");
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_with_the_longest_names_come_a_few_at_a_time_and_all_of_them() {
    const EVENTS: usize = 40;
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        let name = "n".repeat(4096);
        for _ in 0..EVENTS {
            append(&base, &name, "t", "{}");
        }
        let path = "/streams/$all/filtered?context=streamid&type=prefix&data=nnnn";
        let (titles, pages) = walk(&base, path, "next");
        let expected: Vec<String> = (0..EVENTS).rev().map(|number| format!("{number}@{name}")).collect();
        assert!(titles == expected, "{} events", titles.len());
        // By their number they would fit on two.
        assert!(pages > 4, "{pages} pages");
        assert_eq!(client::subscribe(&base, path, &[]).ids(EVENTS).len(), EVENTS);
        assert_eq!(walk(&base, &format!("/streams/{name}"), "next").0.len(), EVENTS);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_delays_no_other_and_misses_nothing() {
    const EVENTS: usize = 100;
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        append(&base, "heavy", "t", "{}");
        let mut late = client::subscribe(&base, "/streams/heavy", &[]);
        // More than the connection and its buffers hold while the client reads nothing.
        let payload = format!("\"{}\"", "x".repeat(100 * 1024));
        for _ in 1..EVENTS {
            append(&base, "heavy", "t", &payload);
        }
        let wanted: Vec<String> = (0..EVENTS).map(|number| number.to_string()).collect();
        let prompt = client::subscribe(&base, "/streams/heavy", &[]).ids(EVENTS);
        assert_eq!(prompt, wanted);
        assert_eq!(late.ids(EVENTS), wanted);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

/// Both ends of all connections are in this process.
fn allow_open_files(count: u64) {
    let allowed = rlimit::increase_nofile_limit(count).unwrap();
    assert!(allowed >= count, "this test needs {count} open files, and {allowed} are allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_subscription_too_many_is_refused_until_another_ends() {
    allow_open_files(16 * 1024);
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let crowd = move || {
        let open = || client::subscribe(&base, "/streams/crowd", &[]);
        let mut crowd: Vec<client::Live> = (0..headwater::testing::MAX_SUBSCRIPTIONS).map(|_| open()).collect();
        assert!(crowd.iter().all(|live| live.status == 200));
        let refused = open();
        let retry_after =
            refused.headers.iter().find(|(name, _)| name == "retry-after").map(|(_, value)| value.as_str());
        assert_eq!((refused.status, retry_after), (503, Some("1")));
        crowd.pop();
        // The node sees a little later that the connection is gone.
        let started = Instant::now();
        while open().status != 200 {
            assert!(started.elapsed() < Duration::from_secs(30), "the place was not given back");
            std::thread::sleep(Duration::from_millis(10)); // polling interval
        }
        append(&base, "crowd", "t", "{}");
        assert!(crowd.iter_mut().all(|live| live.ids(1) == ["0"]));
    };
    tokio::task::spawn_blocking(crowd).await.unwrap();
    nodes.stop().await;
}
