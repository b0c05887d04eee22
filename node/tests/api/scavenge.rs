//! Removing what nobody can see, and redaction, as a client meets them
//! (docs/adr/0021-removal-is-replicated.md).

use serde_json::Value;

use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;
use crate::support::{PATIENCE, block_until};

/// Nothing is removed unless a test asks for it.
const ON_DEMAND: &[&str] = &["--scavenge-interval-s=0"];

const JSON: &str = "application/vnd.eventstore.atom+json";

fn admin(accept: &str) -> Vec<(&'static str, String)> {
    vec![("Authorization", client::ADMIN.to_owned()), ("Accept", accept.to_owned())]
}

fn get(base: &str, path: &str) -> Answer {
    client::send(base, "GET", path, &admin(JSON), b"")
}

fn post(base: &str, path: &str) -> Answer {
    client::send(base, "POST", path, &admin("application/json"), b"")
}

/// Appends so many events and returns the ids of them.
fn append(base: &str, stream: &str, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    append_with_ids(base, stream, &ids);
    ids
}

fn append_with_ids(base: &str, stream: &str, ids: &[String]) -> Answer {
    let events: Vec<String> =
        ids.iter().map(|id| format!(r#"{{"eventId":"{id}","eventType":"t","data":{{"id":"{id}"}}}}"#)).collect();
    let mut headers = admin("*/*");
    headers.push(("Content-Type", "application/vnd.eventstore.events+json".to_owned()));
    let answer = client::send(
        base,
        "POST",
        &format!("/streams/{stream}"),
        &headers,
        format!("[{}]", events.join(",")).as_bytes(),
    );
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer
}

fn describe(base: &str, stream: &str, metadata: &str) {
    let mut headers = admin("*/*");
    headers.push(("Content-Type", "application/json".to_owned()));
    headers.push(("ES-EventType", "$metadata".to_owned()));
    headers.push(("ES-EventId", uuid::Uuid::new_v4().to_string()));
    let answer = client::send(base, "POST", &format!("/streams/{stream}/metadata"), &headers, metadata.as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
}

/// Posts as soon as the leader has heard of every member, which it waits for before it removes or
/// blanks anything.
fn post_upkeep(base: &str, path: &str) -> Answer {
    let mut answer = post(base, path);
    block_until("every member is heard of", || {
        let said = format!("{:?} {}", answer.reason, answer.text());
        let waits = answer.status == 400 && said.contains("every member");
        if waits {
            answer = post(base, path);
        }
        !waits
    });
    answer
}

/// Runs to the end; returns how many events were removed.
fn scavenge(base: &str) -> u64 {
    let started = post_upkeep(base, "/admin/scavenge");
    assert_eq!(started.status, 200, "{}", started.text());
    let id = started.json()["scavengeId"].clone();
    let mut last = Value::Null;
    block_until("the run ends", || {
        let answer = get_json(base, "/admin/scavenge/last");
        last = answer;
        last["scavengeId"] == id && last["state"] != "Running"
    });
    assert_eq!(last["state"], "Success", "{last}");
    assert_eq!(get_json(base, "/admin/scavenge/current")["scavengeId"], "-");
    last["eventsRemoved"].as_u64().unwrap()
}

fn get_json(base: &str, path: &str) -> Value {
    let answer = client::send(base, "GET", path, &admin("application/json"), b"");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Titles of all entries that a walk along links of this relation meets, in the order of the walk,
/// and the largest number of entries on a page.
fn walk(base: &str, from: &str, relation: &str) -> Vec<String> {
    let (mut titles, mut path) = (Vec::new(), from.to_owned());
    for _ in 0..10_000 {
        let answer = get(base, &path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let feed = answer.json();
        let mut page: Vec<String> = feed["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["title"].as_str().unwrap().to_owned())
            .collect();
        if relation == "previous" {
            page.reverse();
        }
        titles.extend(page);
        let links = feed["links"].as_array().unwrap();
        match links.iter().find(|link| link["relation"] == relation).map(|link| link["uri"].as_str().unwrap()) {
            Some(uri) => path = uri.strip_prefix(base).unwrap().to_owned(),
            None => return titles,
        }
    }
    panic!("the walk does not end");
}

fn walk_down(base: &str, stream: &str) -> Vec<String> {
    walk(base, &format!("/streams/{stream}/head/backward/3"), "next")
}

fn walk_up(base: &str, stream: &str) -> Vec<String> {
    walk(base, &format!("/streams/{stream}/0/forward/3"), "previous")
}

/// Of all events but those about runs.
fn log(base: &str) -> Vec<String> {
    let mut down = walk(base, "/streams/$all/head/backward/3", "next");
    down.reverse();
    let up = walk(base, "/streams/$all/00000000000000000000000000000000/forward/3", "previous");
    assert_eq!(down, up, "both directions meet the same events");
    down.into_iter().filter(|title| !title.contains("$scavenges")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_removes_the_same_events_and_walks_step_over_the_holes() {
    let nodes = Nodes::start_with_options(3, ON_DEMAND).await;
    let bases: Vec<String> = nodes.places.http.iter().map(|http| format!("http://{http}")).collect();
    let task = tokio::task::spawn_blocking(move || {
        let base = &bases[0];
        append(base, "kept", 4);
        let gone = append(base, "gone", 40);
        append(base, "counted", 10);
        append(base, "hard", 10);
        append(base, "kept", 4);
        describe(base, "counted", r#"{"$maxCount":2}"#);
        describe(base, "counted", r#"{"$maxCount":3}"#);
        for (stream, hard) in [("gone", "false"), ("hard", "true")] {
            let mut headers = admin("*/*");
            headers.push(("ES-HardDelete", hard.to_owned()));
            assert_eq!(client::send(base, "DELETE", &format!("/streams/{stream}"), &headers, b"").status, 204);
        }
        let before = log(base);
        let link = get(base, "/streams/$all/head/backward/5").json()["links"].clone();
        // Started on any node, whichever leads.
        assert_eq!(scavenge(&bases[1]), 40 + 7 + 10 + 1);
        let expected: Vec<String> = before
            .iter()
            .filter(|title| !title.ends_with("@gone"))
            .filter(|title| !title.ends_with("@hard") || title.starts_with("9223372036854775807"))
            .filter(|title| {
                !title.ends_with("@counted") || ["7@counted", "8@counted", "9@counted"].contains(&title.as_str())
            })
            .filter(|title| *title != "0@$$counted")
            .cloned()
            .collect();
        for base in &bases {
            block_until("the node has removed them, too", || log(base) == expected);
            assert_eq!(walk_down(base, "kept").len(), 8);
            assert_eq!(walk_up(base, "counted"), ["7@counted", "8@counted", "9@counted"]);
            assert_eq!(get(base, "/streams/gone").status, 404);
            assert_eq!(get(base, "/streams/hard").status, 410);
            assert_eq!(get(base, "/streams/gone/3").status, 404);
        }
        // Links that were handed out before lead on.
        for relation in ["next", "previous", "last", "self"] {
            let link = link.as_array().unwrap().iter().find(|link| link["relation"] == relation);
            if let Some(uri) = link.and_then(|link| link["uri"].as_str()) {
                assert_eq!(get(base, uri.strip_prefix(base.as_str()).unwrap()).status, 200, "{uri}");
            }
        }
        // A late repetition is answered like the first time, and nothing is stored.
        let repeated = append_with_ids(base, "gone", &gone[..2]);
        assert!(repeated.header("location").unwrap().ends_with("/streams/gone/0"), "{repeated:?}");
        assert_eq!(get(base, "/streams/gone").status, 404);
        // The stream begins again behind its last number.
        append(base, "gone", 1);
        assert_eq!(walk_up(base, "gone"), ["40@gone"]);
        assert_eq!(scavenge(base), 1, "the mark of the deletion, which the recreation has replaced");
    });
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_told_of_and_only_one_goes_on_at_a_time() {
    let nodes = Nodes::start_with_options(1, &["--scavenge-interval-s=0", "--scavenge-bytes-per-second=1KiB"]).await;
    let base = format!("http://{}", nodes.places.http[0]);
    let task = tokio::task::spawn_blocking(move || {
        for (query, reason) in [
            ("?startFromChunk=-1", "startFromChunk must be a positive integer"),
            ("?threads=0", "threads must be a 1 or above"),
            ("?threads=x", "threads must be a 1 or above"),
        ] {
            let answer = post(&base, &format!("/admin/scavenge{query}"));
            assert_eq!((answer.status, answer.reason.as_deref()), (400, Some(reason)));
        }
        assert_eq!(client::send(&base, "POST", "/admin/scavenge", &[], b"").status, 401);
        assert_eq!(get_json(&base, "/admin/scavenge/last")["scavengeId"], "-");
        // So much that a run at this rate takes long.
        append(&base, "s", 400);
        append(&base, "other", 1);
        describe(&base, "s", r#"{"$maxCount":1}"#);
        append(&base, "t", 400);
        describe(&base, "t", r#"{"$maxCount":1}"#);
        append(&base, "u", 1_000);
        describe(&base, "u", r#"{"$maxCount":1}"#);
        let started = post(&base, "/admin/scavenge?threads=2&startFromChunk=0");
        let id = started.json()["scavengeId"].as_str().unwrap().to_owned();
        let again = post(&base, "/admin/scavenge");
        assert_eq!((again.status, again.reason.as_deref()), (400, Some("A scavenge is already running.")));
        let current = get_json(&base, "/admin/scavenge/current");
        assert_eq!((current["scavengeId"].as_str(), current["state"].as_str()), (Some(id.as_str()), Some("Running")));
        let stop =
            |id: &str| client::send(&base, "DELETE", &format!("/admin/scavenge/{id}"), &admin("*/*"), b"").status;
        assert_eq!(stop(&uuid::Uuid::new_v4().to_string()), 404);
        assert_eq!(stop("x"), 404);
        // Its first step is done, and a long pause follows.
        let removed = || {
            let metrics = get(&base, "/metrics").text();
            let line = metrics.lines().find(|line| line.starts_with("headwater_scavenge_removed_events_total "));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        crate::support::block_until("events are removed", || removed() > 0);
        assert_eq!(stop(&id), 200);
        assert_eq!(stop(&id), 404);
        let last = get_json(&base, "/admin/scavenge/last");
        assert_eq!((&last["state"], &last["eventsRemoved"]), (&"Stopped".into(), &removed().into()));
        let runs = get(&base, "/streams/$scavenges?embed=body").json();
        let types: Vec<&str> =
            runs["entries"].as_array().unwrap().iter().map(|entry| entry["eventType"].as_str().unwrap()).collect();
        assert_eq!(types, ["$scavengeCompleted", "$scavengeStarted"]);
        let as_operator = [("Authorization", "Basic b3BzOmNoYW5nZWl0".to_owned()), ("Accept", JSON.to_owned())];
        assert_eq!(client::send(&base, "GET", "/streams/$scavenges", &as_operator, b"").status, 200);
        let anonymous = [("Accept", JSON.to_owned())];
        assert_eq!(client::send(&base, "GET", "/streams/$scavenges", &anonymous, b"").status, 401);
        let metrics = client::send(&base, "GET", "/metrics", &[], b"").text();
        assert!(metrics.contains("headwater_scavenge_running "), "{metrics}");
    });
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_for_ids_that_means_nothing_is_refused() {
    let nodes = Nodes::start_with_options(1, ON_DEMAND).await;
    let base = format!("http://{}", nodes.places.http[0]);
    let task = tokio::task::spawn_blocking(move || {
        for bad in ["\"3600\"", "0.5", "-1", "true"] {
            let metadata = format!("{{\"idRetentionSeconds\":{bad}}}");
            let mut headers = admin("*/*");
            headers.push(("Content-Type", "application/json".to_owned()));
            headers.push(("ES-EventType", "$metadata".to_owned()));
            headers.push(("ES-EventId", uuid::Uuid::new_v4().to_string()));
            let path = "/streams/$scavenges/metadata";
            let refused = client::send(&base, "POST", path, &headers, metadata.as_bytes());
            let reason = refused.reason.as_deref().unwrap_or_default();
            assert_eq!(refused.status, 400, "{bad}: {reason}");
            assert!(reason.starts_with("idRetentionSeconds must be a whole number"), "{bad}: {reason}");
        }
        for good in ["0", "3600", "\"for ever\""] {
            describe(&base, "$scavenges", &format!("{{\"idRetentionSeconds\":{good}}}"));
        }
        // Other streams may have a key of this name.
        describe(&base, "other", r#"{"idRetentionSeconds":-1}"#);
    });
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redacted_event_is_blank_on_every_node_and_caches_are_told() {
    let nodes = Nodes::start_with_options(3, ON_DEMAND).await;
    let bases: Vec<String> = nodes.places.http.iter().map(|http| format!("http://{http}")).collect();
    let task = tokio::task::spawn_blocking(move || {
        let base = &bases[0];
        append(base, "people", 3);
        let page = "/streams/people?embed=body";
        // Kept pages, too.
        for base in &bases {
            block_until("the node has the events", || get(base, page).status == 200);
            (0..3).for_each(|_| drop(get(base, page)));
        }
        let tags = |base: &str| {
            ["/streams/people", "/streams/$all", "/streams/people/head"].map(|path| get(base, path).header("etag"))
        };
        let before = tags(base);
        assert_eq!(client::send(base, "POST", "/admin/redact/people/1", &[], b"").status, 401);
        let ops = [("Authorization", "Basic b3BzOmNoYW5nZWl0".to_owned())];
        assert_eq!(client::send(base, "POST", "/admin/redact/people/1", &ops, b"").status, 401, "operators may not");
        for path in ["people/7", "none/0", "$$people/0"] {
            assert_eq!(post_upkeep(base, &format!("/admin/redact/{path}")).status, 400, "{path}");
        }
        // Nobody could log in any more, or everybody could read.
        for (path, reason) in [
            ("%24user-admin/0", "this event holds the user; delete the user first, or change it"),
            ("%24users/0", "this event names a user; delete the user first"),
        ] {
            let refused = post_upkeep(base, &format!("/admin/redact/{path}"));
            assert_eq!((refused.status, refused.reason.as_deref()), (400, Some(reason)), "{path}");
        }
        let redacted = post_upkeep(&bases[1], "/admin/redact/people/1");
        assert_eq!(redacted.status, 200, "{}", redacted.text());
        for base in &bases {
            block_until("the node has blanked the event", || {
                let feed = get(base, page).json();
                let data: Vec<&str> =
                    feed["entries"].as_array().unwrap().iter().map(|entry| entry["data"].as_str().unwrap()).collect();
                data.len() == 3 && data[1] == "{}" && data[0] != "{}" && data[2] != "{}"
            });
            let event = client::send(base, "GET", "/streams/people/1", &admin("application/json"), b"");
            assert_eq!((event.status, event.text().as_str()), (200, "{}"));
            let after = tags(base);
            assert!(after.iter().zip(&before).all(|(after, before)| after.is_some() && after != before), "{after:?}");
            for page in ["/streams/people", page] {
                let answer = get(base, page);
                let tag = answer.header("etag").unwrap();
                assert_eq!(answer.json()["eTag"], tag.trim_matches('"'), "{page}: document and header agree");
            }
            let mut known = admin(JSON);
            known.push(("If-None-Match", after[0].clone().unwrap()));
            assert_eq!(client::send(base, "GET", "/streams/people", &known, b"").status, 304);
            known.last_mut().unwrap().1 = before[0].clone().unwrap();
            assert_eq!(client::send(base, "GET", "/streams/people", &known, b"").status, 200);
        }
    });
    tokio::time::timeout(PATIENCE * 2, task).await.unwrap().unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_follows_links_has_another_etag_after_a_redaction_of_what_it_shows() {
    let nodes = Nodes::start_with_options(1, ON_DEMAND).await;
    let base = format!("http://{}", nodes.places.http[0]);
    let task = tokio::task::spawn_blocking(move || {
        append(&base, "people", 2);
        let mut headers = admin("*/*");
        headers.push(("Content-Type", "application/json".to_owned()));
        headers.push(("ES-EventType", "$>".to_owned()));
        headers.push(("ES-EventId", uuid::Uuid::new_v4().to_string()));
        assert_eq!(client::send(&base, "POST", "/streams/links", &headers, b"\"1@people\"").status, 201);
        let etag = |path: &str| get(&base, path).header("etag").unwrap();
        let pages = ["/streams/links/head/backward/5?embed=body", "/streams/people/head/backward/5"];
        let before: Vec<String> = pages.iter().map(|page| etag(page)).collect();
        assert_eq!(post(&base, "/admin/redact/people/1").status, 200);
        for (page, before) in pages.iter().zip(&before) {
            assert_ne!(&etag(page), before, "{page}");
            let mut headers = admin(JSON);
            headers.push(("If-None-Match", before.clone()));
            assert_eq!(client::send(&base, "GET", page, &headers, b"").status, 200, "{page}");
        }
    });
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    nodes.stop().await;
}
