//! A follower whose state is behind believes callers whose right is gone; the leader does not.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};

use super::Node;
use super::access_tests::{HERE, configured, free_address};
use crate::access::manage::{ManageError, append, event};
use crate::access::rules::{ADMINS, Caller};
use crate::cluster::{Asker, Leadership};
use crate::event::ExpectedVersion;

/// How long anything may take on a machine that builds something else meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happens to users while the follower does not hear of it. Every user is in `$admins` and `staff` before.
const FATES: [&str; 4] = ["disabled", "deleted", "degrouped", "reset"];

/// Three nodes of which one does not apply what is committed.
struct Three {
    nodes: Vec<(Node, String)>,
    leader: usize,
    /// The one that can be held.
    follower: usize,
    client: reqwest::Client,
    _directories: Vec<tempfile::TempDir>,
}

impl Three {
    async fn start() -> Self {
        let addresses: Vec<(String, String)> = (0..3).map(|_| (free_address(), free_address())).collect();
        let entry = |(id, (raft, http)): (usize, &(String, String))| format!("{}={raft}/{http}", id + 1);
        let members = addresses.iter().enumerate().map(entry).collect::<Vec<_>>().join(",");
        let directories: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut nodes = Vec::new();
        for (index, (_, http)) in addresses.iter().enumerate() {
            let config = configured(&[
                format!("--server-id={}", index + 1),
                format!("--members={members}"),
                format!("--data-dir={}", directories[index].path().display()),
                "--trusted-auth-from=127.0.0.0/8".to_owned(),
            ]);
            nodes.push((Node::start(config).await.unwrap(), format!("http://{http}")));
        }
        let started = Instant::now();
        let leads = |(node, _): &(Node, String)| node.cluster().leadership() == Leadership::Local;
        while !nodes.iter().all(|(node, _)| node.cluster().status().ready) || !nodes.iter().any(leads) {
            assert!(started.elapsed() < PATIENCE, "the cluster is not ready");
            tokio::time::sleep(Duration::from_millis(10)).await; // polling interval
        }
        let leader = nodes.iter().position(leads).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { nodes, leader, follower: (leader + 1) % 3, client, _directories: directories }
    }

    fn follower(&self) -> &Node {
        &self.nodes[self.follower].0
    }

    /// From here on the follower takes part, but what is committed does not reach its state, until the first of these is dropped and the
    /// second has ended.
    async fn hold(&self) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
        let (release, held) = mpsc::channel::<()>();
        let (is_held, holds) = tokio::sync::oneshot::channel();
        let apply = self.follower().parts.apply().clone();
        let holding = tokio::spawn(async move {
            let hold = move |_: &crate::store::Store| {
                is_held.send(()).unwrap();
                let _ = held.recv();
            };
            apply.run(hold).await.unwrap();
        });
        holds.await.unwrap();
        (release, holding)
    }

    /// Waits until the cluster has so many events.
    async fn wait_for_events(&self, count: u64) {
        let started = Instant::now();
        while self.number_of_events().await < count {
            assert!(started.elapsed() < PATIENCE, "the writes do not reach the leader");
            tokio::time::sleep(Duration::from_millis(5)).await; // polling interval
        }
    }

    /// Sends a request to one of the nodes; `who` is `user:password`, `vouched user; groups` or nobody.
    async fn send(&self, node: usize, who: &str, method: Method, path: &str, body: &str) -> StatusCode {
        let event_type = if path.ends_with("metadata") { "$metadata" } else { "t" };
        let request = self
            .client
            .request(method, format!("{}{path}", self.nodes[node].1))
            .header("Content-Type", "application/json")
            .header("ES-EventType", event_type)
            .header("ES-EventId", uuid::Uuid::new_v4().to_string())
            .body(body.to_owned());
        let request = match (who.strip_prefix("vouched "), who.split_once(':')) {
            (Some(vouched), _) => request.header("ES-TrustedAuth", vouched),
            (None, Some((login, password))) => request.basic_auth(login, Some(password)),
            (None, None) => request,
        };
        tokio::time::timeout(PATIENCE, request.send()).await.unwrap().unwrap().status()
    }

    async fn by_admin(&self, node: usize, method: Method, path: &str, body: &str) {
        let status = self.send(node, "admin:changeit", method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path}: {status}");
    }

    /// Writes that a node has sent to the leader.
    async fn forwarded(&self, node: usize) -> u64 {
        let metrics = self.client.get(format!("{}/metrics", self.nodes[node].1)).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let line = metrics.lines().find(|line| line.contains("forwards_sent_total ")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    async fn number_of_events(&self) -> u64 {
        self.nodes[self.leader].0.cluster().store().applied().current().next_position
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn through_a_follower_that_is_behind_nobody_writes_who_may_no_longer() {
    let three = Arc::new(Three::start().await);
    let (leader, follower) = (three.leader, three.follower);
    let staff_only = r#"{"$acl":{"$w":"staff","$d":"staff","$mw":"staff"}}"#;
    for fate in FATES {
        let user = format!(r#"{{"loginName":"{fate}","groups":["staff","$admins"],"password":"p"}}"#);
        three.by_admin(follower, Method::POST, "/users", &user).await;
        let known = three.send(follower, &format!("{fate}:p"), Method::GET, "/users/$current", "").await;
        assert_eq!(known, StatusCode::OK, "{fate}");
    }
    three.by_admin(follower, Method::POST, "/streams/guarded", "{}").await;
    three.by_admin(follower, Method::POST, "/streams/guarded/metadata", staff_only).await;
    three.by_admin(follower, Method::POST, "/streams/open", "{}").await;
    let stale = three.follower().access().login("degrouped", "p", HERE).await.unwrap();

    let (release, holding) = three.hold().await;
    three.by_admin(leader, Method::POST, "/users/disabled/command/disable", "").await;
    three.by_admin(leader, Method::DELETE, "/users/deleted", "").await;
    three.by_admin(leader, Method::PUT, "/users/degrouped", "{}").await;
    three.by_admin(leader, Method::POST, "/users/reset/command/reset-password", r#"{"newPassword":"q"}"#).await;
    three.by_admin(leader, Method::POST, "/streams/open/metadata", staff_only).await;
    let before = three.number_of_events().await;

    for fate in FATES {
        let who = format!("{fate}:p");
        // It knows no better.
        let known = three.send(follower, &who, Method::GET, "/info", "").await;
        assert_eq!(known, StatusCode::OK, "the follower is not behind: {fate}");
        for (method, path) in [
            (Method::POST, "/streams/guarded"),
            (Method::POST, "/streams/$settings"),
            (Method::POST, "/streams/guarded/metadata"),
            (Method::DELETE, "/streams/guarded"),
        ] {
            let status = three.send(follower, &who, method.clone(), path, "{}").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{fate} {method} {path}");
        }
    }
    for who in ["", "vouched degrouped; others"] {
        let status = three.send(follower, who, Method::POST, "/streams/open", "{}").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{who}");
    }
    // A change of users that was decided on before, too.
    let evil = event("$UserCreated", true, br#"{"loginName":"evil"}"#);
    let appends = vec![append("$user-evil", ExpectedVersion::Any, vec![evil])];
    let by = Asker::Caller(Caller::User(stale));
    assert_eq!(three.follower().access().store_all(&by, appends).await, Err(ManageError::Denied));

    // Changes of users wait until the follower is up to date; who was let in before is looked at again then.
    let forwarded = three.forwarded(follower).await;
    let changes = FATES.map(|fate| {
        let three = three.clone();
        tokio::spawn(async move {
            let evil = format!(r#"{{"loginName":"evil-{fate}","groups":["{ADMINS}"],"password":"e"}}"#);
            three.send(follower, &format!("{fate}:p"), Method::POST, "/users", &evil).await
        })
    });
    let started = Instant::now();
    while three.forwarded(follower).await < forwarded + FATES.len() as u64 {
        assert!(started.elapsed() < PATIENCE, "the changes of users do not begin");
        tokio::time::sleep(Duration::from_millis(5)).await; // polling interval
    }
    assert_eq!(three.number_of_events().await, before);
    drop(release);
    holding.await.unwrap();
    for (fate, change) in FATES.iter().zip(changes) {
        assert_eq!(change.await.unwrap(), StatusCode::UNAUTHORIZED, "{fate}");
    }
    assert_eq!(three.number_of_events().await, before, "something was written");

    // Who may, still may, through the same follower.
    for (who, expected) in
        [("reset:q", StatusCode::CREATED), ("vouched bob; staff", StatusCode::CREATED), ("", StatusCode::UNAUTHORIZED)]
    {
        let status = three.send(follower, who, Method::POST, "/streams/guarded", "{}").await;
        assert_eq!(status, expected, "{who}");
    }
    let Ok(three) = Arc::try_unwrap(three).map_err(drop) else { unreachable!("everybody has ended") };
    for (node, _) in three.nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn through_a_follower_that_is_behind_everybody_writes_who_may_since_a_moment_ago() {
    let three = Arc::new(Three::start().await);
    let (leader, follower) = (three.leader, three.follower);
    let nobody = r#"{"$acl":{"$w":[],"$d":[],"$mw":[]}}"#;
    for stream in ["opened", "shut", "staffed", "deleted"] {
        three.by_admin(follower, Method::POST, &format!("/streams/{stream}"), "{}").await;
        three.by_admin(follower, Method::POST, &format!("/streams/{stream}/metadata"), nobody).await;
    }
    let staff_only = r#"{"$acl":{"$w":"staff","$d":"staff","$mw":"staff"}}"#;
    three.by_admin(follower, Method::POST, "/streams/staffed/metadata", staff_only).await;
    three.by_admin(follower, Method::POST, "/users", r#"{"loginName":"ann","password":"p"}"#).await;
    assert_eq!(three.send(follower, "ann:p", Method::GET, "/info", "").await, StatusCode::OK);

    let (release, holding) = three.hold().await;
    three.by_admin(leader, Method::POST, "/streams/opened/metadata", "{}").await;
    three.by_admin(leader, Method::POST, "/streams/deleted/metadata", "{}").await;
    three.by_admin(leader, Method::PUT, "/users/ann", r#"{"groups":["staff"]}"#).await;
    let before = three.number_of_events().await;
    // Who may not by any list is told so at once.
    for (who, method, path) in [
        ("", Method::POST, "/streams/shut"),
        ("", Method::POST, "/streams/staffed"),
        ("ann:p", Method::DELETE, "/streams/shut"),
        ("ann:p", Method::POST, "/streams/shut/metadata"),
        ("ann:p", Method::POST, "/streams/$all"),
        ("ann:p", Method::DELETE, "/streams/$$opened"),
        ("ann:x", Method::POST, "/streams/staffed"),
    ] {
        let status = three.send(follower, who, method.clone(), path, "{}").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{who} {method} {path}");
    }
    assert_eq!(three.number_of_events().await, before, "something was written");

    // A follower answers once its own state has the write: these wait for it.
    let writes = [
        ("", Method::POST, "/streams/opened", StatusCode::CREATED),
        ("ann:p", Method::POST, "/streams/staffed", StatusCode::CREATED),
        ("ann:p", Method::POST, "/streams/staffed/metadata", StatusCode::CREATED),
        ("", Method::DELETE, "/streams/deleted", StatusCode::NO_CONTENT),
    ];
    let writes = writes.map(|(who, method, path, expected)| {
        let three = three.clone();
        tokio::spawn(async move { (three.send(follower, who, method, path, "{}").await, expected, path) })
    });
    three.wait_for_events(before + writes.len() as u64).await;
    drop(release);
    holding.await.unwrap();
    for write in writes {
        let (status, expected, path) = write.await.unwrap();
        assert_eq!(status, expected, "{path}");
    }
    // Who may not write is not told what is wrong with it.
    let void = r#"{"$acl":5}"#;
    for (who, expected) in [("ann:p", StatusCode::UNAUTHORIZED), ("admin:changeit", StatusCode::BAD_REQUEST)] {
        for node in [leader, follower] {
            assert_eq!(three.send(node, who, Method::POST, "/streams/shut/metadata", void).await, expected, "{who}");
        }
    }
    let Ok(three) = Arc::try_unwrap(three).map_err(drop) else { unreachable!("everybody has ended") };
    for (node, _) in three.nodes {
        node.stop().await;
    }
}
