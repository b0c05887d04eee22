//! A leader that is cut off does not deny writes by rights that have changed since.

use std::time::{Duration, Instant};

use anyhow::Context;
use headwater_cluster_tests::client::{ADMIN, EVENTS_JSON, basic};
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::links::partition;
use headwater_cluster_tests::{serial, wait};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::PROGRESS_LIMIT;

/// For as long as this the node that was cut off is asked: in a debug build it takes some seconds
/// to find out that it no longer leads.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// A user whom no list admits at first.
const GUEST: (&str, &str) = ("guest", "only-the-fault-suite-knows-4");

/// Sends a document as the administrator.
async fn by_admin(cluster: &Cluster, node: u16, path: &str, document: &Value) -> anyhow::Result<()> {
    let (authorization, id) = (basic(ADMIN), uuid::Uuid::new_v4().to_string());
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
        ("ES-EventType", "$metadata"),
        ("ES-EventId", id.as_str()),
    ];
    let url = format!("{}{path}", cluster.base(node));
    let answer = cluster.client().request(Method::POST, &url, &headers, document.to_string().into()).await?;
    anyhow::ensure!(answer.status() == StatusCode::CREATED, "{url}: {}", answer.status());
    Ok(())
}

/// Lets these roles write.
async fn admit(cluster: &Cluster, node: u16, role: &str) -> anyhow::Result<()> {
    by_admin(cluster, node, "/streams/guarded/metadata", &json!({ "$acl": { "$w": role } })).await
}

async fn write_as_guest(cluster: &Cluster, node: u16) -> anyhow::Result<StatusCode> {
    let (authorization, id) = (basic(GUEST), uuid::Uuid::new_v4().to_string());
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", EVENTS_JSON)];
    let event = json!([{ "eventId": id, "eventType": "t", "data": {} }]).to_string();
    let url = format!("{}/streams/guarded", cluster.base(node));
    Ok(cluster.client().request(Method::POST, &url, &headers, event.into()).await?.status())
}

#[tokio::test]
async fn a_leader_that_is_cut_off_denies_no_write_that_was_granted_meanwhile() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let extra = vec!["--leader-wait-ms=200".to_owned()];
    let mut cluster = Cluster::started(3, Options { links: Some(1), extra, ..Options::default() }).await?;
    let leader = cluster.leader().await?;
    let others: Vec<u16> = cluster.ids().into_iter().filter(|node| *node != leader).collect();
    let (login, password) = GUEST;
    let guest = json!({ "loginName": login, "fullName": login, "groups": [], "password": password });
    by_admin(&cluster, leader, "/users/", &guest).await?;
    admit(&cluster, leader, "$admins").await?;
    let denied = write_as_guest(&cluster, leader).await?;
    anyhow::ensure!(denied == StatusCode::UNAUTHORIZED, "before it is granted: {denied}");

    cluster.ruler()?.cut(&partition::split(&[leader], &others))?;
    let successor = cluster.leader_of(&others).await?;
    admit(&cluster, successor, login).await?;
    let granted = write_as_guest(&cluster, successor).await?;
    anyhow::ensure!(granted == StatusCode::CREATED, "once it is granted: {granted}");
    let (began, mut asked) = (Instant::now(), 0);
    while began.elapsed() < ASKED_FOR {
        let answer = write_as_guest(&cluster, leader).await?;
        anyhow::ensure!(
            answer == StatusCode::SERVICE_UNAVAILABLE,
            "{:?} after it was granted, node {leader} answers {answer}",
            began.elapsed()
        );
        asked += 1;
    }
    anyhow::ensure!(asked > 0, "nobody asked");

    cluster.ruler()?.heal()?;
    wait::until("the old leader lets it in", PROGRESS_LIMIT, || async {
        let answer = write_as_guest(&cluster, leader).await?;
        anyhow::ensure!(answer == StatusCode::CREATED, "{answer}");
        Ok(())
    })
    .await
    .context("after healing")?;
    cluster.wait_all_ready().await?;
    cluster.passed()
}
