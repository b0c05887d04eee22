//! A leader whose connection breaks and whose process goes on stays the leader.
//!
//! This test is here because it pretends that a stream has broken, and parts of a node are private.

use super::Node;
use super::support::nodes::Nodes;
use super::support::{PATIENCE, client, until};

/// The value of a counter of a node.
async fn counter(base: String, name: &'static str) -> u64 {
    let metrics = move || client::send(&base, "GET", "/metrics", &[], b"").text();
    let metrics = tokio::task::spawn_blocking(metrics).await.unwrap();
    let line = metrics.lines().find(|line| line.starts_with(&format!("headwater_{name}_total "))).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn term(node: &Node) -> u64 {
    node.cluster().status().local.term
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broken_connection_of_a_leader_that_lives_elects_nobody() {
    let nodes = Nodes::start(3).await;
    let leader = nodes.leader_index();
    let leader_id = nodes.node(leader).cluster().status().local.node_id.unwrap();
    let followers: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    let before = term(nodes.node(leader));
    let mut checks = Vec::new();
    for follower in &followers {
        let (node, base) = (nodes.node(*follower), nodes.base(*follower));
        checks.push((base.clone(), counter(base, "leader_checks").await));
        node.parts.report_broken_stream(leader_id);
    }
    for (base, before) in checks {
        let tried = async { while counter(base.clone(), "leader_checks").await == before {} };
        tokio::time::timeout(PATIENCE, tried).await.unwrap();
        assert_eq!(counter(base, "leader_ends").await, 0);
    }
    // What would have been begun by now ends with another term.
    until("all are ready", || (0..3).all(|index| nodes.node(index).cluster().status().ready)).await;
    assert!(nodes.node(leader).cluster().leads());
    assert!((0..3).all(|index| term(nodes.node(index)) == before));
    nodes.stop().await;
}
