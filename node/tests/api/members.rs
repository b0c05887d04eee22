//! Members are added, removed and replaced while the cluster runs.

use std::time::Duration;

use serde_json::Value;

use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;
use crate::support::{PATIENCE, block_until};

/// How long it is watched that something does not happen: several election timeouts and looks of
/// the leader.
const WATCH: Duration = Duration::from_secs(3);

fn admin() -> Vec<(&'static str, String)> {
    vec![("Authorization", client::ADMIN.to_owned()), ("Accept", "application/json".to_owned())]
}

fn send(base: &str, method: &str, path: &str, body: &str) -> Answer {
    client::send(base, method, &format!("/admin/cluster{path}"), &admin(), body.as_bytes())
}

/// What a change was refused for.
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, 409, "{}", answer.text());
    answer.reason.clone().unwrap_or_default()
}

/// What a node says of its cluster, once there is a leader to ask: a change of members, or a slow
/// disk, may leave none for a moment.
fn overview(base: &str) -> Value {
    let mut answer = send(base, "GET", "", "");
    block_until("the cluster has a leader", || {
        answer = send(base, "GET", "", "");
        answer.status != 503
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Roles by server id, as a node sees them: `1 leader, 2 voter`.
fn roles(base: &str) -> String {
    let overview = overview(base);
    let members = overview["members"].as_array().unwrap().iter();
    let role = |member: &Value| format!("{} {}", member["server"], member["role"].as_str().unwrap());
    members.map(role).collect::<Vec<_>>().join(", ")
}

fn append(base: &str, stream: &str) {
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("ES-EventType", "t".to_owned()),
        ("ES-EventId", uuid::Uuid::new_v4().to_string()),
    ];
    let answer = client::send(base, "POST", &format!("/streams/{stream}"), &headers, b"{}");
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn events(base: &str, stream: &str) -> usize {
    let feed = client::send(base, "GET", &format!("/streams/{stream}"), &admin(), b"");
    if feed.status == 200 { feed.json()["entries"].as_array().unwrap().len() } else { 0 }
}

/// The description of a server as the routes take it.
fn described(nodes: &Nodes, index: usize, replica: bool) -> String {
    let (server, raft, http) = (index + 1, &nodes.places.raft[index], &nodes.places.http[index]);
    format!(r#"{{"server":{server},"raft":"{raft}","http":"{http}","replica":{replica}}}"#)
}

/// The list of a server that names only itself.
fn own_list(nodes: &Nodes, index: usize) -> String {
    format!("--members={}", nodes.places.members().split(',').nth(index).unwrap())
}

/// Nodes that each name only themselves: some wait to be added, the others are clusters of one.
async fn each_alone(count: usize, waits: impl Fn(usize) -> bool) -> Nodes {
    let mut nodes = Nodes::new(count, &[] as &[&str]);
    for index in 0..count {
        let list = own_list(&nodes, index);
        let join = if waits(index) { vec!["--join".to_owned()] } else { Vec::new() };
        nodes.start_node_listing(index, &list, &join).await;
    }
    nodes
}

/// Nodes of which the first runs as a cluster of one, and the others wait to be added.
async fn one_and_waiting(count: usize) -> Nodes {
    each_alone(count, |index| index > 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_becomes_three_and_one_again() {
    let nodes = one_and_waiting(3).await;
    let (bases, new) = (nodes.all(), [described(&nodes, 1, false), described(&nodes, 2, false)]);
    let task = tokio::task::spawn_blocking(move || {
        let one = &bases[0];
        block_until("the first node is ready", || client::send(one, "GET", "/health/ready", &[], b"").status == 204);
        append(one, "s");
        for waiting in &bases[1..] {
            let seen = overview_without_login(waiting);
            assert_eq!(seen, 401, "a node without a cluster knows no users");
            assert_eq!(client::send(waiting, "GET", "/health/ready", &[], b"").status, 503);
        }
        for (count, body) in new.iter().enumerate() {
            let answer = send(one, "POST", "/members", body);
            assert_eq!(answer.status, 200, "{} {:?}", answer.text(), answer.reason);
            let all: Vec<String> =
                (1..=count + 2).map(|id| format!("{id} {}", if id == 1 { "leader" } else { "voter" })).collect();
            block_until("it votes", || roles(one) == all.join(", "));
        }
        for base in &bases {
            block_until("each node is ready and sees three", || {
                client::send(base, "GET", "/health/ready", &[], b"").status == 204
                    && overview(base)["condition"] == "healthy"
                    && roles(base) == "1 leader, 2 voter, 3 voter"
            });
            append(base, "s");
        }
        block_until("each node has all events", || bases.iter().all(|base| events(base, "s") == 4));
        // Through any node; the leader goes last, after it has handed over.
        let answer = send(&bases[2], "DELETE", "/members/1", "");
        assert_eq!(answer.status, 200, "{} {:?}", answer.text(), answer.reason);
        block_until("the first node knows that it was removed", || {
            client::send(one, "GET", "/health/ready", &[], b"").text().contains("removed")
        });
        block_until("the first node follows no leader", || {
            client::send(one, "GET", "/info", &[], b"").json()["state"] == "unknown"
        });
        let leads = |base: &str| roles(base).contains("leader");
        block_until("another leads", || leads(&bases[1]));
        let last = if roles(&bases[1]).starts_with("2 leader") { 3 } else { 2 };
        assert_eq!(send(&bases[1], "DELETE", &format!("/members/{last}"), "").status, 200);
        let rest = &bases[if last == 3 { 1 } else { 2 }];
        assert_eq!(roles(rest).matches("leader").count(), 1);
        assert_eq!(overview(rest)["voters"], 1);
        append(rest, "s");
        let only = if last == 3 { 2 } else { 3 };
        assert_eq!(
            refused(&send(rest, "DELETE", &format!("/members/{only}"), "")),
            format!("server {only} is the last voter")
        );
    });
    tokio::time::timeout(PATIENCE * 2, task).await.unwrap().unwrap();
    nodes.stop().await;
}

fn overview_without_login(base: &str) -> u16 {
    client::send(base, "GET", "/admin/cluster", &[], b"").status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_answers_reads_and_never_votes_until_it_is_promoted() {
    let nodes = one_and_waiting(2).await;
    let (bases, replica) = (nodes.all(), described(&nodes, 1, true));
    let task = tokio::task::spawn_blocking(move || {
        let (one, two) = (&bases[0], &bases[1]);
        block_until("the first node is ready", || client::send(one, "GET", "/health/ready", &[], b"").status == 204);
        let added = send(one, "POST", "/members", &replica);
        assert_eq!(added.json()["done"].as_str().unwrap().split(' ').next(), Some("server"), "{}", added.text());
        block_until("the replica is ready", || {
            client::send(two, "GET", "/health/ready", &[], b"").status == 204 && roles(one) == "1 leader, 2 replica"
        });
        append(two, "s");
        assert_eq!(events(two, "s"), 1);
        assert_eq!(overview(one)["voters"], 1, "it counts in no majority");
        assert_eq!(client::send(two, "GET", "/info", &[], b"").json()["state"], "clone");
        let until = std::time::Instant::now() + WATCH;
        while std::time::Instant::now() < until {
            assert_eq!(roles(one), "1 leader, 2 replica", "nothing gives it a vote");
            std::thread::sleep(Duration::from_millis(50)); // polling interval
        }
        assert_eq!(refused(&send(two, "POST", "/transfer?to=2", "")), "server 2 does not vote, so it cannot lead");
        assert_eq!(send(two, "POST", "/members/2/promote", "").status, 200);
        block_until("it votes", || roles(two) == "1 leader, 2 voter");
        assert_eq!(send(one, "POST", "/transfer?to=2", "").status, 200);
        block_until("it leads", || roles(one) == "1 voter, 2 leader");
        assert_eq!(send(one, "POST", "/members/1/demote", "").status, 200);
        block_until("the other is a replica", || roles(two) == "1 replica, 2 leader");
        append(one, "s");
        assert_eq!(events(one, "s"), 2);
    });
    tokio::time::timeout(PATIENCE * 2, task).await.unwrap().unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_change_nothing() {
    // The third server was started as everybody starts one: it has founded a cluster of its own.
    let nodes = each_alone(3, |index| index == 1).await;
    let (bases, waiting, foreign) = (nodes.all(), described(&nodes, 1, false), described(&nodes, 2, false));
    let (raft, http) = (nodes.places.raft.clone(), nodes.places.http.clone());
    let task = tokio::task::spawn_blocking(move || {
        let one = &bases[0];
        block_until("the first node is ready", || client::send(one, "GET", "/health/ready", &[], b"").status == 204);
        let add = |body: &str| refused(&send(one, "POST", "/members", body));
        let new =
            |server: u16, raft: &str, http: &str| format!(r#"{{"server":{server},"raft":"{raft}","http":"{http}"}}"#);
        assert!(add(&foreign).contains("data of another cluster"));
        assert!(add(&new(4, &raft[1], "127.0.0.1:9")).contains("another one does"), "the wrong id");
        assert!(add(&new(4, &raft[0], "127.0.0.1:9")).contains("is that of server 1"));
        assert!(add(&new(4, "127.0.0.1:9", &http[0])).contains("is that of server 1"));
        assert!(add(&new(1, "127.0.0.1:8", "127.0.0.1:9")).contains("is a member already"));
        assert!(add(&new(4, "10.0.0.1:8", "10.0.0.1:9")).contains("loopback"));
        for body in
            ["", "{}", "[]", r#"{"server":0,"raft":"a:1","http":"a:2"}"#, r#"{"server":4,"raft":"a","http":"a:2"}"#]
        {
            assert_eq!(send(one, "POST", "/members", body).status, 400, "{body}");
        }
        for path in ["/members/0/promote", "/members/x/demote", "/transfer?to=70000"] {
            assert_eq!(send(one, "POST", path, "").status, 400, "{path}");
        }
        let ops = [("Authorization", "Basic b3BzOmNoYW5nZWl0".to_owned())];
        let as_operator = client::send(one, "POST", "/admin/cluster/members", &ops, waiting.as_bytes());
        assert_eq!(as_operator.status, 401, "operators look, administrators change");
        assert_eq!(client::send(one, "GET", "/admin/cluster", &ops, b"").status, 200);
        assert_eq!(roles(one), "1 leader");
        assert_eq!(overview(one)["listInForce"], true);
        // Two at once: one of them is made.
        let both: Vec<_> = [waiting.clone(), waiting.clone()]
            .map(|body| {
                let base = one.clone();
                std::thread::spawn(move || send(&base, "POST", "/members", &body).status)
            })
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert!(both.contains(&200) && both.contains(&409), "{both:?}");
        block_until("it votes", || roles(one) == "1 leader, 2 voter");
        // The node that found a cluster of its own still leads that one alone.
        assert_eq!(roles(&bases[2]), "3 leader");
    });
    tokio::time::timeout(PATIENCE * 2, task).await.unwrap().unwrap();
    nodes.stop().await;
}
