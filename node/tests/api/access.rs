//! Access under the options that change which callers are believed and admitted.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;

const ATOM_JSON: &str = "application/vnd.eventstore.atom+json";

fn basic(credentials: &str) -> (&'static str, String) {
    ("Authorization", format!("Basic {}", STANDARD.encode(credentials)))
}

fn get(base: &str, path: &str, headers: &[(&'static str, String)]) -> Answer {
    let accept = ("Accept", if path.starts_with("/streams") { ATOM_JSON } else { "application/json" }.to_owned());
    let headers: Vec<_> = headers.iter().cloned().chain([accept]).collect();
    client::send(base, "GET", path, &headers, b"")
}

fn post(base: &str, path: &str, headers: &[(&'static str, String)], body: &str) -> u16 {
    let fixed = [
        ("Content-Type", "application/json".to_owned()),
        ("ES-EventId", uuid::Uuid::new_v4().to_string()),
        ("ES-EventType", if path.ends_with("metadata") { "$metadata" } else { "t" }.to_owned()),
    ];
    let headers: Vec<_> = headers.iter().cloned().chain(fixed).collect();
    client::send(base, "POST", path, &headers, body.as_bytes()).status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_down_node_admits_only_callers_with_a_login() {
    let options =
        ["--allow-anonymous-stream-access=false", "--allow-anonymous-endpoint-access=false", "--challenge=Basic"];
    let nodes = Nodes::start_with_options(1, &options).await;
    let base = nodes.leader();
    let talk = move || {
        assert_eq!(post(&base, "/streams/s", &[], "{}"), 401);
        assert_eq!(post(&base, "/streams/s", &[basic("ops:changeit")], "{}"), 201);
        for path in ["/streams/s", "/streams/s/0", "/streams/s/0/forward/5", "/streams/s/metadata", "/streams/s/"] {
            let refused = get(&base, path, &[]);
            assert_eq!((refused.status, refused.text().as_str()), (401, ""), "{path}");
            assert_eq!(refused.header("WWW-Authenticate").as_deref(), Some("Basic realm=\"ES\""));
            let allowed = refused.header("Access-Control-Allow-Methods").unwrap_or_default();
            assert!(allowed.contains("GET") && allowed.ends_with("OPTIONS"), "{path}: {allowed}");
        }
        let event = get(&base, "/streams/s/0", &[basic("ops:changeit")]);
        assert_eq!((event.status, event.header("Cache-Control").as_deref()), (200, Some("max-age=31536000, private")));
        for (path, anonymous, ops, admin) in [
            ("/users", 401, 401, 200),
            ("/users/admin", 401, 401, 200),
            ("/users/$current", 401, 200, 200),
            ("/metrics", 401, 200, 200),
            ("/info", 200, 200, 200),
            ("/ping", 200, 200, 200),
            ("/gossip", 200, 200, 200),
            ("/subscriptions", 401, 200, 200),
            ("/histogram/x", 401, 404, 404),
        ] {
            let of = |headers: &[(&'static str, String)]| get(&base, path, headers).status;
            let found = (of(&[]), of(&[basic("ops:changeit")]), of(&[basic("admin:changeit")]));
            assert_eq!(found, (anonymous, ops, admin), "{path}");
        }
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_intermediary_is_believed_and_a_subscription_ends_with_the_right_to_it() {
    let nodes = Nodes::start_with_options(1, &["--trusted-auth-from=127.0.0.0/8"]).await;
    let base = nodes.leader();
    let talk = move || {
        let vouched = |value: &str| ("ES-TrustedAuth", value.to_owned());
        assert_eq!(post(&base, "/streams/s", &[], "{}"), 201);
        assert_eq!(post(&base, "/streams/s/metadata", &[], r#"{"$acl":{"$r":"g1"}}"#), 201);
        assert_eq!(get(&base, "/streams/s", &[vouched("bob; g1, g2")]).status, 200);
        assert_eq!(get(&base, "/streams/s", &[vouched("bob")]).status, 401);
        for bad in ["a; b; c", "", "; g1"] {
            assert_eq!(get(&base, "/info", &[vouched(bad)]).status, 401, "{bad}");
        }
        // Basic credentials count more.
        assert_eq!(get(&base, "/streams/s", &[vouched("bob; g1"), basic("ops:changeit")]).status, 401);
        assert_eq!(get(&base, "/streams/s", &[vouched("bob; g1"), basic("ops:wrong")]).status, 401);

        let user = r#"{"loginName":"ann","groups":["g1"],"password":"p"}"#;
        assert_eq!(post(&base, "/users", &[basic("admin:changeit")], user), 201);
        assert_eq!(client::subscribe(&base, "/streams/s", &[basic("ops:changeit")]).status, 401);
        let mut live = client::subscribe(&base, "/streams/s", &[basic("ann:p")]);
        assert_eq!(live.ids(1), ["0"]);
        assert_eq!(post(&base, "/users/ann/command/disable", &[basic("admin:changeit")], ""), 200);
        assert_eq!(post(&base, "/streams/s", &[], "{}"), 201);
        assert_eq!(live.next(), None);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_known_on_every_node_as_soon_as_its_creation_was_answered() {
    let nodes = Nodes::start(3).await;
    let bases = nodes.all();
    let check = move || {
        let admin = [basic("admin:changeit")];
        for round in 0..12 {
            let (writer, login) = (&bases[round % bases.len()], format!("everywhere-{round}"));
            let document = format!(r#"{{"loginName":"{login}","fullName":"A B","password":"p"}}"#);
            assert_eq!(post(writer, "/users/", &admin, &document), 201);
            for reader in &bases {
                // No request is redirected, even where the leader alone would have to answer.
                let headers = [basic("admin:changeit"), ("ES-RequireMaster", "true".to_owned())];
                let found = get(reader, &format!("/users/{login}"), &headers);
                assert_eq!(found.status, 200, "{login}, created at {writer}, read at {reader}");
                let all = get(reader, "/users", &headers).json();
                let names = all["data"].as_array().unwrap().iter();
                assert!(names.filter(|user| user["loginName"] == *login).count() == 1, "{login} at {reader}");
            }
            let deleted = client::send(writer, "DELETE", &format!("/users/{login}"), &admin, b"");
            assert_eq!(deleted.status, 200);
            for reader in &bases {
                let found = get(reader, &format!("/users/{login}"), &[basic("admin:changeit")]);
                assert_eq!(found.status, 404, "{login}, deleted at {writer}, read at {reader}");
            }
        }
    };
    tokio::task::spawn_blocking(check).await.unwrap();
    nodes.stop().await;
}

/// Sends the same request several times at once, with other bodies, to the nodes in turn; their
/// statuses.
fn at_once(bases: &[String], method: &'static str, path: &str, bodies: Vec<String>) -> Vec<u16> {
    let start = std::sync::Barrier::new(bodies.len());
    std::thread::scope(|scope| {
        let threads = bodies.into_iter().zip(bases.iter().cycle()).map(|(body, base)| {
            let start = &start;
            scope.spawn(move || {
                let headers = [basic("admin:changeit"), ("Content-Type", "application/json".to_owned())];
                start.wait();
                client::send(base, method, path, &headers, body.as_bytes()).status
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// How many of the statuses are this one.
fn count(statuses: &[u16], wanted: u16) -> usize {
    statuses.iter().filter(|status| **status == wanted).count()
}

/// Creates and deletes one user several times, each time from several clients at once.
fn create_and_delete_at_once(bases: &[String]) {
    const CREATORS: usize = 6;
    let document = |password: usize| format!(r#"{{"loginName":"ann","password":"p{password}"}}"#);
    for round in 0..4 {
        let created = at_once(bases, "POST", "/users", (0..CREATORS).map(document).collect());
        assert_eq!((count(&created, 201), count(&created, 409)), (1, CREATORS - 1), "round {round}: {created:?}");
        let winner = created.iter().position(|status| *status == 201).unwrap();
        for password in 0..CREATORS {
            let login = [basic(&format!("ann:p{password}"))];
            let expected = if password == winner { 200 } else { 401 };
            assert_eq!(get(&bases[0], "/users/$current", &login).status, expected, "round {round}: {password}");
        }
        let events = get(&bases[0], "/streams/$user-ann", &[basic("admin:changeit")]).json();
        assert_eq!(events["entries"].as_array().unwrap().len(), 1, "round {round}");
        let deleted = at_once(bases, "DELETE", "/users/ann", vec![String::new(); 2]);
        assert_eq!((count(&deleted, 200), count(&deleted, 404)), (1, 1), "round {round}: {deleted:?}");
    }
    // The same user, sent twice, is one.
    assert_eq!(at_once(bases, "POST", "/users", vec![document(0), document(0)]), [201, 201]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_create_or_delete_a_user_at_once_one_does() {
    for count in [1, 3] {
        let nodes = Nodes::start(count).await;
        let bases = nodes.all();
        tokio::task::spawn_blocking(move || create_and_delete_at_once(&bases)).await.unwrap();
        nodes.stop().await;
    }
}

/// A change of a user that ends or alters its rights.
fn change(base: &str, user: &str, how: &str) {
    let admin = [basic("admin:changeit"), ("Content-Type", "application/json".to_owned())];
    let (method, path, body) = match how {
        "disable" => ("POST", format!("/users/{user}/command/disable"), ""),
        "delete" => ("DELETE", format!("/users/{user}"), ""),
        "groups" => ("PUT", format!("/users/{user}"), "{}"),
        "reset" => ("POST", format!("/users/{user}/command/reset-password"), r#"{"newPassword":"other"}"#),
        _ => unreachable!("{how}"),
    };
    assert_eq!(client::send(base, method, &path, &admin, body.as_bytes()).status, 200, "{how}");
}

fn create(base: &str, user: &str, groups: &[&str]) {
    let document = serde_json::json!({"loginName": user, "groups": groups, "password": "p"}).to_string();
    assert_eq!(post(base, "/users", &[basic("admin:changeit")], &document), 201);
}

/// Polls as `user`, changes it meanwhile, and says whether the poll was waiting then.
fn poll_and_change(base: &str, path: &str, user: &str, how: &str) -> bool {
    let login = basic(&format!("{user}:p"));
    assert_eq!(get(base, "/streams/s", std::slice::from_ref(&login)).status, 200);
    let poll = std::thread::spawn({
        let (base, path) = (base.to_owned(), path.to_owned());
        move || {
            let started = Instant::now();
            let answer = get(&base, &path, &[login, ("ES-LongPoll", "2".to_owned())]);
            (answer.status, started.elapsed())
        }
    });
    change(base, user, how);
    let (status, took) = poll.join().unwrap();
    assert_eq!(status, 401, "{path} {how}");
    took >= Duration::from_secs(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_is_authorised_again_when_it_is_answered() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        assert_eq!(post(&base, "/streams/s", &[], "{}"), 201);
        assert_eq!(post(&base, "/streams/s/metadata", &[], r#"{"$acl":{"$r":"g"}}"#), 201);
        for how in ["disable", "delete", "groups", "reset"] {
            // The stream stays as it is, so the poll ends with its time; a poll that came too late
            // to wait is refused sooner.
            let waited = (0..10).any(|round| {
                let user = format!("{how}-{round}");
                create(&base, &user, &["g"]);
                poll_and_change(&base, "/streams/s/1/forward/5", &user, how)
            });
            assert!(waited, "no poll was waiting when its user was changed: {how}");
            // These are woken by the change itself.
            let far = format!("{0}{0}", "0000000000100000");
            for (number, (path, query)) in
                [("/streams/$all/", ""), ("/streams/$all/filtered/", "?exclude-system-events=true")].iter().enumerate()
            {
                let user = format!("{how}-all-{number}");
                create(&base, &user, &["g", "$admins"]);
                poll_and_change(&base, &format!("{path}{far}/forward/5{query}"), &user, how);
            }
        }
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_goes_on_with_a_new_name_and_ends_with_a_new_password() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        assert_eq!(post(&base, "/streams/s", &[], "{}"), 201);
        create(&base, "ann", &["g"]);
        let mut live = client::subscribe(&base, "/streams/s", &[basic("ann:p")]);
        assert_eq!(live.ids(1), ["0"]);
        let renamed = r#"{"fullName":"Ann","groups":["h"]}"#;
        let admin = [basic("admin:changeit"), ("Content-Type", "application/json".to_owned())];
        assert_eq!(client::send(&base, "PUT", "/users/ann", &admin, renamed.as_bytes()).status, 200);
        assert_eq!(post(&base, "/streams/s", &[], "{}"), 201);
        assert_eq!(live.ids(1), ["1"]);
        change(&base, "ann", "reset");
        assert_eq!(post(&base, "/streams/s", &[], "{}"), 201);
        assert_eq!(live.next(), None);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_authorization_headers_none_is_overlooked() {
    let nodes = Nodes::start_with_options(1, &["--trusted-auth-from=127.0.0.0/8"]).await;
    let base = nodes.leader();
    let talk = move || {
        let bearer = || ("Authorization", "Bearer x".to_owned());
        let (right, wrong) = (|| basic("admin:changeit"), || basic("admin:wrong"));
        let after_tab = ("Authorization", right().1.replace(' ', "\t"));
        for (headers, expected) in [
            (vec![right()], 200),
            (vec![after_tab], 200),
            (vec![bearer()], 401),
            (vec![bearer(), right()], 200),
            (vec![bearer(), wrong()], 401),
            (vec![right(), wrong()], 401),
            (vec![wrong(), right()], 401),
            (vec![right(), basic("ops:changeit")], 401),
            // An intermediary has one name for its header.
            (vec![("Kurrent-TrustedAuth", "admin; $admins".to_owned())], 401),
            (vec![("ES-TrustedAuth", "admin; $admins".to_owned())], 200),
        ] {
            assert_eq!(get(&base, "/streams/$all", &headers).status, expected, "{headers:?}");
        }
        for scheme in ["Basic\t!!", "Basic:x", "Basic,x"] {
            assert_eq!(get(&base, "/info", &[("Authorization", scheme.to_owned())]).status, 401, "{scheme}");
        }
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_done_to_a_user_called_like_the_caller_and_a_name_deleted_for_good_is_a_conflict() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        let admin = [basic("admin:changeit"), ("Content-Type", "application/json".to_owned())];
        let send = |method: &str, path: &str, body: &str| client::send(&base, method, path, &admin, body.as_bytes());
        // However it came to be: a user of this name exists.
        let document = r#"{"loginName":"$current","groups":["g"]}"#;
        assert_eq!(post(&base, "/streams/$user-$current", &[basic("admin:changeit")], document), 201);
        for (method, path, body) in [
            ("PUT", "/users/$current", r#"{"groups":["$admins"]}"#),
            ("DELETE", "/users/$current", ""),
            ("POST", "/users/$current/command/disable", ""),
            ("POST", "/users/$current/command/reset-password", r#"{"newPassword":"x"}"#),
            ("POST", "/users/$current/command/change-password", r#"{"newPassword":"x","currentPassword":"y"}"#),
        ] {
            let answer = send(method, path, body);
            assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some("NotFound")), "{method} {path}");
        }
        assert_eq!(get(&base, "/streams/$user-$current", &admin).json()["entries"].as_array().unwrap().len(), 1);

        create(&base, "ann", &["g"]);
        let hard = [basic("admin:changeit"), ("ES-HardDelete", "true".to_owned())];
        assert_eq!(client::send(&base, "DELETE", "/streams/$user-ann", &hard, b"").status, 204);
        let answer = send("POST", "/users", r#"{"loginName":"ann","password":"p"}"#);
        let document = answer.json();
        assert_eq!((answer.status, document["error"].as_str()), (409, Some("Conflict")));
        assert!(document["message"].as_str().unwrap().contains("deleted for good"), "{document}");
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}
