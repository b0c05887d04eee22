//! What operators tell nodes over HTTP, and what nodes that start, stop or do not lead do with
//! requests.

use std::net::TcpStream;

use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;
use crate::support::process::{self, Process};
use crate::support::{block_until, until};

const OPERATOR: &str = "Basic b3BzOmNoYW5nZWl0";

fn post(base: &str, path: &str) -> Answer {
    client::send(base, "POST", path, &[("Authorization", OPERATOR.to_owned())], b"")
}

/// Runs what blocks beside the nodes.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_operators_tell_a_node_what_to_do() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        for path in ["shutdown", "node/resign", "node/priority/1", "reloadconfig", "mergeindexes"] {
            let path = format!("/admin/{path}");
            assert_eq!(client::send(&base, "POST", &path, &[], b"").status, 401, "{path}");
            assert_eq!(client::send(&base, "GET", &path, &[], b"").status, 405, "{path}");
        }
        for wrong in ["x", "1.5", "99999999999"] {
            let answer = post(&base, &format!("/admin/node/priority/{wrong}"));
            assert_eq!((answer.status, answer.reason.as_deref()), (400, Some("nodePriority must be an integer.")));
        }
        // There is nobody to take over.
        assert_eq!(post(&base, "/admin/node/resign").status, 409);
        let merge = post(&base, "/admin/mergeindexes");
        assert_eq!(merge.status, 200);
        assert!(uuid::Uuid::parse_str(merge.json()["mergeIndexesId"].as_str().unwrap()).is_ok());
        assert_eq!(post(&base, "/admin/reloadconfig").status, 200);
    };
    beside(talk).await;
    assert!(!nodes.node(0).is_to_stop());
    let base = nodes.leader();
    assert_eq!(beside(move || post(&base, "/admin/shutdown")).await.status, 200);
    assert!(nodes.node(0).is_to_stop());
    nodes.stop().await;
}

#[test]
fn a_node_that_was_told_to_shut_down_ends_in_order() {
    let data = tempfile::tempdir().unwrap();
    let (mut node, base) = Process::start_single(&[&format!("--data-dir={}", data.path().display())]);
    assert_eq!(post(&base, "/admin/shutdown").status, 200);
    block_until("the node has ended", || node.exited().is_some());
    assert_eq!(node.exited().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_resigns_is_followed_by_the_node_of_highest_priority() {
    let nodes = Nodes::start_with_options(3, &["--node-priority={id}"]).await;
    for _ in 0..2 {
        let leader = nodes.leader_index();
        // The priorities of the options are 1 to 3. The lowest of the others becomes the highest.
        let favourite = (0..3).find(|index| *index != leader).unwrap();
        for (index, priority) in (0..3).map(|index| (index, if index == favourite { 9 } else { -1 })) {
            let base = nodes.base(index);
            assert_eq!(beside(move || post(&base, &format!("/admin/node/priority/{priority}"))).await.status, 200);
        }
        let base = nodes.base(leader);
        let asked = base.clone();
        beside(move || {
            block_until("the leader knows the priorities", || {
                let gossip = client::send(&asked, "GET", "/gossip", &[], b"").json();
                let members = gossip["members"].as_array().unwrap();
                let nodes_of =
                    |priority: i64| members.iter().filter(|member| member["nodePriority"] == priority).count();
                (nodes_of(9), nodes_of(-1)) == (1, 2)
            });
        })
        .await;
        let (follower, resigns) = (nodes.follower(), base.clone());
        // A node that does not lead has nothing to hand over.
        assert_eq!(beside(move || post(&follower, "/admin/node/resign")).await.status, 200);
        assert_eq!(nodes.leader_index(), leader);
        assert_eq!(beside(move || post(&resigns, "/admin/node/resign")).await.status, 200);
        assert!(!nodes.node(leader).leads());
        until("the favourite leads", || nodes.node(favourite).leads()).await;
        // A write through the node that has resigned is made by the next leader.
        let written = beside(move || client::send(&base, "POST", "/streams/resigned", &one_event(), b"{}")).await;
        assert_eq!(written.status, 201, "{}", written.text());
        nodes.wait_until_ready().await;
    }
    nodes.stop().await;
}

fn one_event() -> Vec<(&'static str, String)> {
    vec![
        ("Content-Type", "application/json".to_owned()),
        ("ES-EventType", "t".to_owned()),
        ("ES-EventId", uuid::Uuid::new_v4().to_string()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_asks_the_leader_itself_where_clients_are_not_sent_there() {
    let nodes = Nodes::start_with_options(3, &["--leader-redirect=proxy"]).await;
    let (leader, follower) = (nodes.leader(), nodes.follower());
    let talk = move || {
        for number in 0..20 {
            let demanding = ("ES-RequireMaster", "true".to_owned());
            let mut headers = one_event();
            headers.push(demanding.clone());
            // What was acknowledged by the leader is seen at once through a follower.
            let through = if number % 2 == 0 { &leader } else { &follower };
            assert_eq!(client::send(through, "POST", "/streams/asked", &headers, b"{}").status, 201);
            let accept = ("Accept", "application/json".to_owned());
            let read = client::send(&follower, "GET", &format!("/streams/asked/{number}"), &[accept, demanding], b"");
            assert_eq!(read.status, 200, "{number}");
        }
        let deleted =
            client::send(&follower, "DELETE", "/streams/asked", &[("ES-RequireMaster", "true".to_owned())], b"");
        assert_eq!(deleted.status, 204);
    };
    beside(talk).await;
    nodes.stop().await;
}

/// Whether somebody takes connections at an address.
fn is_open(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starting_node_takes_no_connection_until_it_is_ready() {
    let mut nodes = Nodes::new(3, &["--start-wait-ms=600000"]);
    nodes.start_node(0).await;
    nodes.start_node(1).await;
    assert!(!is_open(&nodes.places.http[0]) && !is_open(&nodes.places.http[1]), "there is no cluster yet");
    nodes.start_node(2).await;
    for index in 0..3 {
        until("the port is open", || is_open(&nodes.places.http[index])).await;
        let base = nodes.base(index);
        let ready = beside(move || client::send(&base, "GET", "/health/ready", &[], b"")).await;
        assert_eq!(ready.status, 204, "{}", ready.text());
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waits_for_others_too_long_says_why_it_is_not_ready() {
    let mut nodes = Nodes::new(3, &["--start-wait-ms=1"]);
    nodes.start_node(0).await;
    until("the port is open", || is_open(&nodes.places.http[0])).await;
    let base = nodes.base(0);
    let (ready, live) = beside(move || {
        let ask = |path| client::send(&base, "GET", path, &[], b"");
        (ask("/health/ready"), ask("/health/live"))
    })
    .await;
    assert_eq!((ready.status, live.status), (503, 204));
    assert!(!ready.text().is_empty(), "the reason is missing");
    nodes.stop().await;
}

#[test]
fn a_port_in_use_ends_the_start() {
    let (taken, data) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), tempfile::tempdir().unwrap());
    let address = taken.local_addr().unwrap().to_string();
    let raft = crate::support::nodes::free_addresses(1).remove(0);
    let data_dir = format!("--data-dir={}", data.path().display());
    let ended = process::output(&[data_dir.as_str(), "--http-listen", &address, "--raft-listen", &raft]);
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains(&format!("cannot listen on {address}")) && said.contains("--http-listen"), "{said}");
}
