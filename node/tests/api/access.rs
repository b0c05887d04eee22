//! Access under options that change who is believed and who is let in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::client::{self, Answer};
use crate::nodes;

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
async fn a_locked_down_node_lets_in_only_who_logged_in() {
    let options =
        ["--allow-anonymous-stream-access=false", "--allow-anonymous-endpoint-access=false", "--challenge=Basic"];
    let nodes = nodes::start_with_options(1, &options).await;
    let base = nodes.leader();
    let talk = move || {
        assert_eq!(post(&base, "/streams/s", &[], "{}"), 401);
        assert_eq!(post(&base, "/streams/s", &[basic("ops:changeit")], "{}"), 201);
        for path in ["/streams/s", "/streams/s/0", "/streams/s/0/forward/5", "/streams/s/metadata", "/streams/s/"] {
            let refused = get(&base, path, &[]);
            assert_eq!((refused.status, refused.text().as_str()), (401, ""), "{path}");
            assert_eq!(refused.header("WWW-Authenticate").as_deref(), Some("Basic realm=\"ES\""));
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
    let nodes = nodes::start_with_options(1, &["--trusted-auth-from=127.0.0.0/8"]).await;
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
    let nodes = nodes::start(3).await;
    let bases = nodes.all();
    let check = move || {
        let admin = [basic("admin:changeit")];
        for round in 0..12 {
            let (writer, login) = (&bases[round % bases.len()], format!("everywhere-{round}"));
            let document = format!(r#"{{"loginName":"{login}","fullName":"A B","password":"p"}}"#);
            assert_eq!(post(writer, "/users/", &admin, &document), 201);
            for reader in &bases {
                // Also where the leader alone would have to answer, nobody is sent to it.
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
