//! Attacks against one node of three: the others go on, and leadership stays where it is.

use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::serial;

use crate::Form;
use crate::attack::{self, Attack};
use crate::door::Door;
use crate::trial::{self, Doors, Judged};

/// What the short form has of them: one that holds places, and one that makes the node work.
const SHORT_FORM: [&str; 2] = ["long polls", "filters that take long"];

/// Which node is attacked.
#[derive(Debug, Clone, Copy)]
enum Attacked {
    Leader,
    Follower,
}

async fn attack_one_of_three(attacked: Attacked) -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let form = Form::of_this_run();
    let is_due = |attack: &&Attack| !attack.needs_tls && (form == Form::Long || SHORT_FORM.contains(&attack.name));
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let (leader, follower) = (cluster.leader().await?, cluster.follower().await?);
    let (attacked, honest) = match attacked {
        Attacked::Leader => (leader, follower),
        Attacked::Follower => (follower, leader),
    };
    let (attacked_door, honest_door) = (Door::of(&cluster, attacked)?, Door::of(&cluster, honest)?);
    let attacked_pid = cluster.pid(attacked)?;
    let doors = Doors { attacked: &attacked_door, attacked_pid, honest: &honest_door };
    let mut faults = Vec::new();
    for attack in attack::all().iter().filter(is_due) {
        faults.extend(trial::faults(&doors, attack, form, Judged::Rates).await);
        let leads = cluster.leader().await?;
        if leads != leader {
            anyhow::bail!("node {leads} leads instead of {leader} after '{}'", attack.name);
        }
    }
    anyhow::ensure!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    cluster.passed()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_under_attack_goes_on_leading() -> anyhow::Result<()> {
    attack_one_of_three(Attacked::Leader).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_under_attack_disturbs_no_other_node() -> anyhow::Result<()> {
    attack_one_of_three(Attacked::Follower).await
}
