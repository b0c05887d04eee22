//! What operators do to a cluster that works, and a node that comes back too late for the log.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use super::disks;
use super::nemesis::Nemesis;
use super::schedule::Blow;
use super::strike::Field;
use crate::client::{ADMIN, basic};
use crate::cluster::{Cluster, READY_LIMIT};
use crate::process::headwater_binary;
use crate::{program, release, wait};

/// A change of members, a run of the scavenge or a backup goes on beside a full load.
const UPKEEP_LIMIT: Duration = Duration::from_secs(60);

/// Snapshots that others take while a node lags: with the second, the log below the first is gone.
const SNAPSHOTS: f64 = 3.0;

/// The last release reports calls that come while it stops in order; this version does not.
pub(super) const PROVOKED_BY_RELEASES: [&str; 1] = ["failed to send RaftMsg to RaftCore*raft stopped"];

/// The node that reports that it leads, if there is one. Of two, which are possible while one of
/// them does not know better, the first.
pub(super) async fn leader(cluster: &Cluster, nodes: &[u16]) -> Option<u16> {
    for id in nodes {
        if cluster.client().state(&cluster.base(*id)).await.is_ok_and(|state| state == "master") {
            return Some(*id);
        }
    }
    None
}

/// Does it and returns whether it has happened.
pub(super) async fn run(field: &mut Field, blow: &Blow) -> anyhow::Result<bool> {
    let nodes = field.cluster.ids();
    let one = nodes[blow.pick as usize % nodes.len()];
    match blow.nemesis {
        Nemesis::RollingRestart => rolling_restart(&mut field.cluster, None).await,
        Nemesis::Transfer => transfer(&field.cluster, one).await,
        Nemesis::Lag => lag(field, one).await,
        Nemesis::Wipe => wipe(field, one).await,
        Nemesis::Grow => grow(field).await,
        Nemesis::Demote => demote(&mut field.cluster, one).await,
        Nemesis::Upgrade => upgrade(&mut field.cluster).await,
        Nemesis::BitRot => disks::rot(field, one, blow).await,
        Nemesis::Scavenge => scavenge(&field.cluster, one).await,
        _ => backup(field, one).await,
    }
}

/// All nodes, one after the other; as another program, if there is one.
async fn rolling_restart(cluster: &mut Cluster, program: Option<&Path>) -> anyhow::Result<bool> {
    for id in cluster.ids() {
        let status = cluster.terminate(id).await?;
        anyhow::ensure!(status.success(), "an ordered shutdown of node {id} ended with {status}");
        if let Some(program) = program {
            cluster.set_binary(id, program);
        }
        cluster.start(id)?;
        cluster.wait_ready(id).await?;
    }
    Ok(true)
}

async fn upgrade(cluster: &mut Cluster) -> anyhow::Result<bool> {
    let Some(last) = release::last()?.program()? else { return Ok(false) };
    rolling_restart(cluster, Some(&last)).await?;
    rolling_restart(cluster, Some(&headwater_binary()?)).await
}

async fn demote(cluster: &mut Cluster, victim: u16) -> anyhow::Result<bool> {
    let asked = cluster.base(victim);
    let is = |wanted: bool| move |members: &[(u16, bool)]| members.contains(&(victim, wanted));
    change(&asked, &["demote", &victim.to_string()], is(false)).await?;
    cluster.wait_ready(victim).await?;
    change(&asked, &["promote", &victim.to_string()], is(true)).await?;
    Ok(true)
}

async fn transfer(cluster: &Cluster, preferred: u16) -> anyhow::Result<bool> {
    let nodes = cluster.ids();
    let leads = leader(cluster, &nodes).await;
    let to = nodes.iter().copied().find(|id| *id >= preferred && Some(*id) != leads);
    let to = to.or_else(|| nodes.into_iter().find(|id| Some(*id) != leads)).context("no other node")?;
    let credentials = basic(ADMIN);
    wait::until("leadership is handed over", UPKEEP_LIMIT, || async {
        let url = format!("{}/admin/cluster/transfer?to={to}", cluster.base(to));
        let answer = cluster.client().request(Method::POST, &url, &[("Authorization", &credentials)], Vec::new()).await;
        anyhow::ensure!(leader(cluster, &[to]).await.is_some(), "not yet: {answer:?}");
        Ok(true)
    })
    .await
}

async fn lag(field: &mut Field, victim: u16) -> anyhow::Result<bool> {
    let cluster = &mut field.cluster;
    cluster.kill(victim).await?;
    let client = cluster.client().clone();
    let others: Vec<(u16, String)> = cluster.bases().into_iter().filter(|(id, _)| *id != victim).collect();
    let built = async || {
        let mut least = f64::INFINITY;
        for (_, base) in &others {
            // There is none of this name before the first one.
            least = least.min(client.metric(base, "headwater_snapshots_built_total").await.unwrap_or_default());
        }
        least
    };
    let wanted = built().await + SNAPSHOTS;
    let purged = wait::until("the others take snapshots", UPKEEP_LIMIT, || async {
        let now = built().await;
        anyhow::ensure!(now >= wanted, "{now} of {wanted}");
        Ok(())
    });
    // Without enough load it lags less, which is no fault of the cluster.
    let has_lagged = purged.await.is_ok();
    cluster.start(victim)?;
    cluster.wait_ready(victim).await?;
    let base = cluster.base(victim);
    let installed = wait::until("a snapshot is installed", READY_LIMIT, || async {
        let installed = client.metric(&base, "headwater_snapshots_installed_total").await?;
        anyhow::ensure!(installed >= 1.0, "none");
        Ok(())
    });
    Ok(has_lagged && installed.await.is_ok())
}

async fn wipe(field: &mut Field, victim: u16) -> anyhow::Result<bool> {
    let cluster = &mut field.cluster;
    // With all others healthy: a second lost disk would be a lost majority.
    cluster.wait_all_ready().await?;
    cluster.kill(victim).await?;
    cluster.wipe(victim)?;
    cluster.start_with(victim, &["--rejoin"])?;
    cluster.wait_ready(victim).await?;
    Ok(true)
}

async fn grow(field: &mut Field) -> anyhow::Result<bool> {
    let cluster = &mut field.cluster;
    let asked = cluster.base(1);
    let new = cluster.grow()?;
    let entry = cluster.members().split(',').next_back().unwrap_or_default().to_owned();
    cluster.start_as(new, &entry, &["--join"])?;
    let id = new.to_string();
    change(&asked, &["add", &entry], |members| members.iter().any(|(server, votes)| *server == new && *votes)).await?;
    cluster.wait_ready(new).await?;
    change(&asked, &["remove", &id], |members| members.iter().all(|(server, _)| *server != new)).await?;
    wait::until("the removed node says so", UPKEEP_LIMIT, || async {
        anyhow::ensure!(cluster.last_log(new).contains("was removed from the cluster"), "not yet");
        Ok(())
    })
    .await?;
    cluster.retire_last().await?;
    Ok(true)
}

/// Asks for a change of members until it is there: servers, and whether they vote.
async fn change(url: &str, words: &[&str], is_there: impl Fn(&[(u16, bool)]) -> bool) -> anyhow::Result<()> {
    let common = ["--url", url, "--user", ADMIN.0, "--retry-s", "5"];
    wait::until(&format!("{words:?}"), UPKEEP_LIMIT, || async {
        let made = program::said(program::run(&[&["cluster"], words, &common].concat()).await?);
        let status = program::run(&[&["cluster", "status", "--json"][..], &common].concat()).await?;
        let status: Value = serde_json::from_slice(&status.stdout).context("no status")?;
        let members = status["members"].as_array().context("no members")?.iter();
        let member = |member: &Value| {
            let votes = matches!(member["role"].as_str(), Some("voter" | "leader"));
            member["server"].as_u64().and_then(|server| u16::try_from(server).ok()).map(|server| (server, votes))
        };
        let members: Vec<(u16, bool)> = members.filter_map(member).collect();
        anyhow::ensure!(is_there(&members), "{members:?}: {made:?}");
        Ok(())
    })
    .await
}

/// Lets a run of the scavenge go on to its end.
pub(super) async fn scavenge(cluster: &Cluster, asked: u16) -> anyhow::Result<bool> {
    let (base, credentials) = (cluster.base(asked), basic(ADMIN));
    let headers = [("Authorization", credentials.as_str()), ("Accept", "application/json")];
    wait::until("a run ends with success", UPKEEP_LIMIT, || async {
        let url = format!("{base}/admin/scavenge");
        let answer = cluster.client().request(Method::POST, &url, &headers, Vec::new()).await?;
        anyhow::ensure!(answer.status().is_success(), "{answer:?}");
        let id = answer.json::<Value>().await?["scavengeId"].clone();
        wait::until("the run ends", UPKEEP_LIMIT, || async {
            let last = cluster.client().get(&format!("{base}/admin/scavenge/last"), &headers).await?;
            let last: Value = last.json().await?;
            anyhow::ensure!(last["scavengeId"] == id && last["state"] != "Running", "{last}");
            Ok(last)
        })
        .await
        .and_then(|last| {
            anyhow::ensure!(last["state"] == "Success", "{last}");
            Ok(true)
        })
    })
    .await
}

async fn backup(field: &mut Field, from: u16) -> anyhow::Result<bool> {
    field.backups += 1;
    let to = field.cluster.directory().join(format!("backup-{}", field.backups));
    program::backup(&field.cluster.base(from), &to, None).await?;
    program::said(program::run(&["verify", &to.display().to_string()]).await?)?;
    std::fs::remove_dir_all(&to).context("cannot remove the backup")?;
    Ok(true)
}
