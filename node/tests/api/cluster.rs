//! What nodes report about each other, and which requests are redirected to the leader.

use std::time::{Duration, Instant};

use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;

/// How long a node may take to notice that others are gone, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn get(base: &str, path: &str, headers: &[(&str, String)]) -> Answer {
    client::send(base, "GET", path, headers, b"")
}

fn login(who: &'static str) -> (&'static str, String) {
    ("Authorization", who.to_owned())
}

/// Headers of a write of one event, and further ones.
fn one_event(further: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let own = [
        ("Content-Type", "application/json".to_owned()),
        ("ES-EventType", "$metadata".to_owned()),
        ("ES-EventId", uuid::Uuid::new_v4().to_string()),
    ];
    own.into_iter().chain(further.iter().cloned()).collect()
}

/// Waits until a document is as wanted.
fn wait_for(base: &str, path: &str, is_there: impl Fn(&serde_json::Value) -> bool) {
    let started = Instant::now();
    loop {
        let document = get(base, path, &[]).json();
        if is_there(&document) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{path} of {base} is still {document}");
        std::thread::sleep(Duration::from_millis(20)); // polling interval
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_and_redirects_name_the_advertised_address() {
    let nodes = Nodes::start_with_options(3, &["--advertise-http=pub{id}.example:900{id}"]).await;
    let (leader, follower, all) = (nodes.leader(), nodes.follower(), nodes.all());
    let talk = move || {
        let id_of = |base: &String| all.iter().position(|known| known == base).unwrap() + 1;
        let members = |document: &serde_json::Value| document["members"].as_array().unwrap().clone();
        for base in &all {
            wait_for(base, "/gossip", |document| {
                members(document).iter().all(|member| member["externalHttpIp"].as_str().unwrap().starts_with("pub"))
            });
            // The newest first.
            for (member, id) in members(&get(base, "/gossip", &[]).json()).iter().zip([3, 2, 1]) {
                for kind in ["externalHttp", "httpEndPoint"] {
                    assert_eq!(member[format!("{kind}Ip")], format!("pub{id}.example"), "{member}");
                    assert_eq!(member[format!("{kind}Port")], 9000 + id, "{member}");
                }
                // Nodes find each other by the list of members.
                let listed = all[id - 1].rsplit_once(':').unwrap();
                assert_eq!(format!("http://{}", member["internalHttpIp"].as_str().unwrap()), listed.0);
                assert_eq!(member["internalHttpPort"].to_string(), listed.1);
            }
        }
        let headers = [("ES-RequireMaster", "true".to_owned()), ("Accept", "application/json".to_owned())];
        let answer = get(&follower, "/streams/a%20b?embed=rich", &headers);
        let leader = format!("http://pub{0}.example:900{0}", id_of(&leader));
        assert_eq!((answer.status, answer.reason.as_deref()), (307, Some("Temporary Redirect")));
        assert_eq!(answer.header("Location"), Some(format!("{leader}/streams/a%20b?embed=rich")));
        let prefixed = [headers[0].clone(), ("X-Forwarded-Prefix", "es".to_owned())];
        let answer = client::send(&follower, "DELETE", "/streams/a", &prefixed, b"");
        assert_eq!((answer.status, answer.header("Location")), (307, Some(format!("{leader}/es/streams/a"))));
        // A write that is passed on leads back to the node that was asked.
        let answer = client::send(&follower, "POST", "/streams/a/metadata", &one_event(&[]), b"{}");
        let own = format!("http://pub{0}.example:900{0}", id_of(&follower));
        assert_eq!((answer.status, answer.header("Location")), (201, Some(format!("{own}/streams/%24%24a/0"))));
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_for_the_leader_are_redirected_before_access_is_decided() {
    let nodes = Nodes::start(3).await;
    let (leader, follower) = (nodes.leader(), nodes.follower());
    let talk = move || {
        let closed = br#"{"$acl":{"$r":[],"$w":[],"$d":[],"$mr":[],"$mw":[]}}"#;
        let answer = client::send(&follower, "POST", "/streams/closed/metadata", &one_event(&[]), closed);
        assert_eq!(answer.status, 201);
        for (method, path) in [
            ("POST", "/streams/$s1"),
            ("POST", "/streams/closed"),
            ("POST", "/streams/closed/metadata"),
            ("POST", "/streams/closed/incoming/a1111111-1111-4111-8111-111111111111"),
            ("POST", "/streams/$all"),
            ("DELETE", "/streams/$s1"),
            ("DELETE", "/streams/closed"),
            ("DELETE", "/streams/$$closed"),
            ("DELETE", "/streams/$all"),
            ("GET", "/streams/closed/0"),
            ("GET", "/streams/closed/metadata"),
            ("GET", "/streams/$all/head/backward/5"),
        ] {
            let send =
                |further: &[(&'static str, String)]| client::send(&follower, method, path, &one_event(further), b"{}");
            for name in ["ES-RequireMaster", "ES-RequiresMaster", "ES-RequireLeader"] {
                let answer = send(&[(name, "True".to_owned())]);
                assert_eq!(answer.status, 307, "{name} {method} {path}");
                assert_eq!(answer.header("Location"), Some(format!("{leader}{path}")), "{name} {method} {path}");
            }
            let as_admin = send(&[("ES-RequireMaster", "true".to_owned()), login(client::ADMIN)]);
            assert_eq!(as_admin.status, 307, "admin {method} {path}");
            // The leader refuses, and so does a node that decides for itself or passes a write on.
            for headers in [&one_event(&[("ES-RequireMaster", "true".to_owned())]), &one_event(&[])] {
                assert_eq!(client::send(&leader, method, path, headers, b"{}").status, 401, "{method} {path}");
            }
            assert_eq!(send(&[]).status, 401, "{method} {path}");
        }
        // What is wrong with the request itself comes first, and so do wrong credentials.
        let wanting =
            |content_type: &str| [("ES-RequireMaster", "true".to_owned()), ("Content-Type", content_type.to_owned())];
        let array = wanting("application/vnd.eventstore.events+json");
        assert_eq!(client::send(&follower, "POST", "/streams/closed", &array, b"{").status, 400);
        let wrong = one_event(&[("ES-RequireMaster", "true".to_owned()), login("Basic YWRtaW46eA==")]);
        assert_eq!(client::send(&follower, "POST", "/streams/closed", &wrong, b"{}").status, 401);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_left_alone_says_so() {
    let mut nodes = Nodes::start(3).await;
    let base = nodes.leader();
    let wait = |path: &'static str, is_there: fn(&serde_json::Value) -> bool| {
        let base = base.clone();
        async move { tokio::task::spawn_blocking(move || wait_for(&base, path, is_there)).await.unwrap() }
    };
    wait("/stats/replication", |followers| followers.as_array().unwrap().len() == 2).await;
    let leader = nodes.leader_index();
    for follower in (0..3).filter(|index| *index != leader) {
        nodes.stop_node(follower).await;
    }
    // Without a majority the leader replicates to nobody.
    wait("/stats/replication", |followers| *followers == serde_json::json!([])).await;
    wait("/info", |info| info["state"] == "unknown").await;
    nodes.stop_node(leader).await;
    nodes.start_node(leader).await;
    let look = move || {
        // Until the node hears from a leader it does not know whether it has every acknowledged
        // event.
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            assert_eq!(get(&base, "/info", &[]).json()["state"], "initializing");
            assert_eq!(get(&base, "/streams/x", &[("Accept", "application/json".to_owned())]).status, 503);
            std::thread::sleep(Duration::from_millis(50)); // polling interval
        }
    };
    tokio::task::spawn_blocking(look).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_leader_exports_nothing_and_its_backup_says_that_events_may_be_missing() {
    let mut nodes = Nodes::start(3).await;
    let (leader, base) = (nodes.leader_index(), nodes.leader());
    let taken = |base: String| move || client::send(&base, "POST", "/admin/backup", &[login(client::ADMIN)], b"");
    let whole = tokio::task::spawn_blocking(taken(nodes.follower())).await.unwrap();
    assert!(whole.status == 200 && !whole.text().contains("mayLackNewest"), "{}", whole.status);
    for follower in (0..3).filter(|index| *index != leader) {
        nodes.stop_node(follower).await;
    }
    let alone = base.clone();
    let look = move || {
        wait_for(&alone, "/info", |info| info["state"] == "unknown");
        get(&alone, "/admin/export", &[login(client::ADMIN)]).status
    };
    assert_eq!(tokio::task::spawn_blocking(look).await.unwrap(), 503);
    let partial = tokio::task::spawn_blocking(taken(base)).await.unwrap();
    assert!(partial.status == 200 && partial.text().contains("\"mayLackNewest\":true"), "{}", partial.status);
    nodes.stop().await;
}
