//! The version of the cluster: in force once every member knows it, and for good.

use serde_json::{Value, json};

use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;
use crate::support::{PATIENCE, block_until};

const LIMITED: &str = "--max-cluster-version=1";

fn send(base: &str, method: &str, path: &str, body: &str) -> Answer {
    let headers = [("Authorization", client::ADMIN.to_owned()), ("Accept", "application/json".to_owned())];
    client::send(base, method, path, &headers, body.as_bytes())
}

fn overview(base: &str) -> Value {
    let answer = send(base, "GET", "/admin/cluster", "");
    if answer.status == 200 { answer.json() } else { Value::Null }
}

/// Runs questions to nodes, which wait, beside them.
async fn ask(questions: impl FnOnce() + Send + 'static) {
    tokio::time::timeout(PATIENCE * 2, tokio::task::spawn_blocking(questions)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_waits_for_the_member_that_does_not_know_it_and_is_then_in_force_for_good() {
    let mut nodes = Nodes::new(4, &[] as &[&str]);
    let members = nodes.places.members();
    let (three, fourth) = members.rsplit_once(',').unwrap();
    let (three, fourth) = (format!("--members={three}"), fourth.to_owned());
    for index in 0..3 {
        let limit = if index == 2 { vec![LIMITED.to_owned()] } else { Vec::new() };
        nodes.start_node_listing(index, &three, &limit).await;
    }
    nodes.wait_until_ready().await;
    let base = nodes.base(0);
    ask(move || {
        let gated = json!([{
            "version": 2,
            "adds": "changes of the members while the cluster runs",
            "waitsFor": ["server 3 knows none beyond 1"],
        }]);
        // An upgrade that is under way is no problem.
        block_until("version 2 waits in a healthy cluster", || {
            let now = overview(&base);
            now["gated"] == gated && now["condition"] == "healthy"
        });
        let now = overview(&base);
        assert_eq!(now["clusterVersion"], 1);
        let known: Vec<&Value> =
            now["members"].as_array().unwrap().iter().map(|member| &member["newestClusterVersion"]).collect();
        assert_eq!(known, [2, 2, 1]);
        let answer = send(&base, "DELETE", "/admin/cluster/members/2", "");
        assert_eq!(answer.status, 409);
        assert!(answer.reason.as_deref().unwrap_or_default().contains("servers 3 have not answered"), "{answer:?}");
    })
    .await;

    nodes.stop_node(2).await;
    nodes.start_node_listing(2, &three, &[]).await;
    let bases = nodes.all()[..3].to_vec();
    ask(move || {
        for base in &bases {
            block_until("version 2 is in force", || overview(base)["clusterVersion"] == 2);
            assert_eq!(overview(base)["gated"], json!([]));
            block_until("the metric says so", || {
                send(base, "GET", "/metrics", "").text().lines().any(|line| line == "headwater_cluster_version 2")
            });
        }
    })
    .await;

    // A node that does not know it neither opens such data nor comes in.
    nodes.stop_node(2).await;
    let refused = nodes.start_is_refused(2, &[LIMITED.to_owned()]).await;
    assert!(refused.contains("need cluster version 2, and this node knows none beyond 1"), "{refused}");
    nodes.start_node_listing(2, &three, &[]).await;
    nodes.start_node_listing(3, &format!("--members={fourth}"), &["--join".to_owned(), LIMITED.to_owned()]).await;
    let base = nodes.base(0);
    let body = format!(r#"{{"server":4,"raft":"{}","http":"{}"}}"#, nodes.places.raft[3], nodes.places.http[3]);
    ask(move || {
        block_until("all members answer", || overview(&base)["condition"] == "healthy");
        let answer = send(&base, "POST", "/admin/cluster/members", &body);
        assert_eq!(answer.status, 409, "{answer:?}");
        let reason = answer.reason.as_deref().unwrap_or_default();
        assert!(reason.contains("server 4 knows no cluster version beyond 1, and version 2 is in force"), "{answer:?}");
    })
    .await;
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_keeps_its_version_over_restarts_and_below_its_limit() {
    let mut nodes = Nodes::new(1, &[] as &[&str]);
    for (limit, in_force) in [(Some(LIMITED), 1), (None, 2), (None, 2)] {
        let limit: Vec<String> = limit.map(str::to_owned).into_iter().collect();
        nodes.start_node_with_options(0, &limit).await;
        nodes.wait_until_ready().await;
        let base = nodes.base(0);
        ask(move || block_until("the version", || overview(&base)["clusterVersion"] == in_force)).await;
        nodes.stop_node(0).await;
    }
    let refused = nodes.start_is_refused(0, &[LIMITED.to_owned()]).await;
    assert!(refused.contains("or raise --max-cluster-version"), "{refused}");
    nodes.stop().await;
}
