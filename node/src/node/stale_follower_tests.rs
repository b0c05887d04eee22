//! A follower with an outdated state accepts callers that have lost their rights; the leader does
//! not.
//!
//! These tests are here because they pause the apply thread, whose handle is private.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Node;
use super::access_tests::HERE;
use super::support::nodes::Nodes;
use super::support::{PATIENCE, client, until};
use crate::access::ManageError;
use crate::access::change::{append, event};
use crate::access::rules::{ADMINS, Caller};
use crate::cluster::Requester;
use crate::event::ExpectedVersion;

/// Changes of users that the follower does not learn of. Every user is in `$admins` and `staff`
/// before.
const FATES: [&str; 4] = ["disabled", "deleted", "degrouped", "reset"];

/// Three nodes, one of which can be kept from applying.
struct Three {
    nodes: Nodes,
    leader: usize,
    /// The node that can be paused.
    follower: usize,
}

impl Three {
    async fn start() -> Self {
        let nodes = Nodes::start_with_options(3, &["--trusted-auth-from=127.0.0.0/8"]).await;
        let (leader, follower) = (nodes.leader_index(), nodes.follower_index());
        Self { nodes, leader, follower }
    }

    fn follower(&self) -> &Node {
        self.nodes.node(self.follower)
    }

    /// From here on the follower takes part, but committed entries do not reach its state, until
    /// the first of these is dropped and the second has ended.
    async fn hold(&self) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
        let (release, held) = mpsc::channel::<()>();
        let (is_held, holds) = tokio::sync::oneshot::channel();
        let apply = self.follower().parts.apply().clone();
        let holding = tokio::spawn(async move {
            let hold = move |_: &mut crate::store::StateWriter| {
                is_held.send(()).unwrap();
                let _ = held.recv();
            };
            apply.run(hold).await.unwrap();
        });
        holds.await.unwrap();
        (release, holding)
    }

    /// Waits until the cluster has this many events.
    async fn wait_for_events(&self, count: u64) {
        until("the writes have reached the leader", || self.number_of_events() >= count).await;
    }

    /// Sends a request to one of the nodes and returns the status of the answer. `caller` is
    /// `user:password`, `vouched user; groups` or empty.
    async fn send(&self, node: usize, caller: &str, method: &'static str, path: &str, body: &str) -> u16 {
        let event_type = if path.ends_with("metadata") { "$metadata" } else { "t" };
        let mut headers = vec![
            ("Content-Type", "application/json".to_owned()),
            ("ES-EventType", event_type.to_owned()),
            ("ES-EventId", uuid::Uuid::new_v4().to_string()),
        ];
        if let Some(vouched) = caller.strip_prefix("vouched ") {
            headers.push(("ES-TrustedAuth", vouched.to_owned()));
        } else if !caller.is_empty() {
            headers.push(("Authorization", format!("Basic {}", STANDARD.encode(caller))));
        }
        let (base, path, body) = (self.nodes.base(node), path.to_owned(), body.to_owned());
        let sent = move || client::send(&base, method, &path, &headers, body.as_bytes()).status;
        tokio::task::spawn_blocking(sent).await.unwrap()
    }

    async fn by_admin(&self, node: usize, method: &'static str, path: &str, body: &str) {
        let status = self.send(node, "admin:changeit", method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status}");
    }

    /// Writes that a node has sent to the leader.
    async fn forwarded(&self, node: usize) -> u64 {
        let base = self.nodes.base(node);
        let metrics = move || client::send(&base, "GET", "/metrics", &[], b"").text();
        let metrics = tokio::task::spawn_blocking(metrics).await.unwrap();
        let line = metrics.lines().find(|line| line.contains("forwards_sent_total ")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn number_of_events(&self) -> u64 {
        self.nodes.node(self.leader).cluster().store().applied().current().next_position
    }

    async fn stop(self: Arc<Self>) {
        let Ok(three) = Arc::try_unwrap(self).map_err(drop) else { unreachable!("every request has ended") };
        three.nodes.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_revoked_right_to_write_is_refused_through_a_follower_that_is_behind() {
    let three = Arc::new(Three::start().await);
    let (leader, follower) = (three.leader, three.follower);
    let staff_only = r#"{"$acl":{"$w":"staff","$d":"staff","$mw":"staff"}}"#;
    for fate in FATES {
        let user = format!(r#"{{"loginName":"{fate}","groups":["staff","$admins"],"password":"p"}}"#);
        three.by_admin(follower, "POST", "/users", &user).await;
        let known = three.send(follower, &format!("{fate}:p"), "GET", "/users/$current", "").await;
        assert_eq!(known, 200, "{fate}");
    }
    three.by_admin(follower, "POST", "/streams/guarded", "{}").await;
    three.by_admin(follower, "POST", "/streams/guarded/metadata", staff_only).await;
    three.by_admin(follower, "POST", "/streams/open", "{}").await;
    let stale = three.follower().access().login("degrouped", "p", HERE).await.unwrap();

    let (release, holding) = three.hold().await;
    three.by_admin(leader, "POST", "/users/disabled/command/disable", "").await;
    three.by_admin(leader, "DELETE", "/users/deleted", "").await;
    three.by_admin(leader, "PUT", "/users/degrouped", "{}").await;
    three.by_admin(leader, "POST", "/users/reset/command/reset-password", r#"{"newPassword":"q"}"#).await;
    three.by_admin(leader, "POST", "/streams/open/metadata", staff_only).await;
    let before = three.number_of_events();

    for fate in FATES {
        let who = format!("{fate}:p");
        // The follower knows nothing newer.
        let known = three.send(follower, &who, "GET", "/info", "").await;
        assert_eq!(known, 200, "the follower is not behind: {fate}");
        for (method, path) in [
            ("POST", "/streams/guarded"),
            ("POST", "/streams/$settings"),
            ("POST", "/streams/guarded/metadata"),
            ("DELETE", "/streams/guarded"),
        ] {
            let status = three.send(follower, &who, method, path, "{}").await;
            assert_eq!(status, 401, "{fate} {method} {path}");
        }
    }
    for who in ["", "vouched degrouped; others"] {
        let status = three.send(follower, who, "POST", "/streams/open", "{}").await;
        assert_eq!(status, 401, "{who}");
    }
    // The same for a change of users that was decided on before.
    let evil = event("$UserCreated", true, br#"{"loginName":"evil"}"#);
    let appends = vec![append("$user-evil", ExpectedVersion::Any, vec![evil])];
    let by = Requester::Caller(Caller::User(stale));
    assert_eq!(three.follower().access().store_all(&by, appends).await, Err(ManageError::Denied));

    // Changes of users wait until the follower is up to date; then the caller is checked again.
    let forwarded = three.forwarded(follower).await;
    let changes = FATES.map(|fate| {
        let three = three.clone();
        tokio::spawn(async move {
            let evil = format!(r#"{{"loginName":"evil-{fate}","groups":["{ADMINS}"],"password":"e"}}"#);
            three.send(follower, &format!("{fate}:p"), "POST", "/users", &evil).await
        })
    });
    let started = Instant::now();
    while three.forwarded(follower).await < forwarded + FATES.len() as u64 {
        assert!(started.elapsed() < PATIENCE, "the changes of users do not begin");
        tokio::time::sleep(Duration::from_millis(5)).await; // polling interval
    }
    assert_eq!(three.number_of_events(), before);
    drop(release);
    holding.await.unwrap();
    for (fate, change) in FATES.iter().zip(changes) {
        assert_eq!(change.await.unwrap(), 401, "{fate}");
    }
    assert_eq!(three.number_of_events(), before, "something was written");

    // A caller that still has the right may write, through the same follower.
    for (who, expected) in [("reset:q", 201), ("vouched bob; staff", 201), ("", 401)] {
        let status = three.send(follower, who, "POST", "/streams/guarded", "{}").await;
        assert_eq!(status, expected, "{who}");
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_right_to_write_is_granted_through_a_follower_that_is_behind() {
    let three = Arc::new(Three::start().await);
    let (leader, follower) = (three.leader, three.follower);
    let nobody = r#"{"$acl":{"$w":[],"$d":[],"$mw":[]}}"#;
    for stream in ["opened", "shut", "staffed", "deleted"] {
        three.by_admin(follower, "POST", &format!("/streams/{stream}"), "{}").await;
        three.by_admin(follower, "POST", &format!("/streams/{stream}/metadata"), nobody).await;
    }
    let staff_only = r#"{"$acl":{"$w":"staff","$d":"staff","$mw":"staff"}}"#;
    three.by_admin(follower, "POST", "/streams/staffed/metadata", staff_only).await;
    three.by_admin(follower, "POST", "/users", r#"{"loginName":"ann","password":"p"}"#).await;
    assert_eq!(three.send(follower, "ann:p", "GET", "/info", "").await, 200);

    let (release, holding) = three.hold().await;
    three.by_admin(leader, "POST", "/streams/opened/metadata", "{}").await;
    three.by_admin(leader, "POST", "/streams/deleted/metadata", "{}").await;
    three.by_admin(leader, "PUT", "/users/ann", r#"{"groups":["staff"]}"#).await;
    let before = three.number_of_events();
    // A caller that no list could permit is refused at once.
    for (who, method, path) in [
        ("", "POST", "/streams/shut"),
        ("", "POST", "/streams/staffed"),
        ("ann:p", "DELETE", "/streams/shut"),
        ("ann:p", "POST", "/streams/shut/metadata"),
        ("ann:p", "POST", "/streams/$all"),
        ("ann:p", "DELETE", "/streams/$$opened"),
        ("ann:x", "POST", "/streams/staffed"),
    ] {
        let status = three.send(follower, who, method, path, "{}").await;
        assert_eq!(status, 401, "{who} {method} {path}");
    }
    assert_eq!(three.number_of_events(), before, "something was written");

    // A follower answers once its own state has the write, so these wait for it.
    let writes = [
        ("", "POST", "/streams/opened", 201),
        ("ann:p", "POST", "/streams/staffed", 201),
        ("ann:p", "POST", "/streams/staffed/metadata", 201),
        ("", "DELETE", "/streams/deleted", 204),
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
    // A caller without the right does not learn what is wrong with the document.
    let void = r#"{"$acl":5}"#;
    for (who, expected) in [("ann:p", 401), ("admin:changeit", 400)] {
        for node in [leader, follower] {
            assert_eq!(three.send(node, who, "POST", "/streams/shut/metadata", void).await, expected, "{who}");
        }
    }
    three.stop().await;
}
