//! A group of competing consumers, while nodes are stopped in order, killed, paused and cut off.
//! Each consumer keeps its own books of what it got and what it has settled; at the end they are
//! compared with what was appended and with what the group has parked.

mod cut_off;
mod trial;

use std::time::Duration;

use anyhow::Context;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::consumers::{Books, Fault};
use headwater_cluster_tests::serial;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::random_faults::from_environment;
use trial::Trial;

/// The group, as part of a path.
const GROUP: &str = "/subscriptions/orders/workers";

/// As in `random_faults`: `FAULTS_SEED` and `FAULTS_ROUNDS` make another or a longer run.
const SEED: u64 = 20_261_129;
const ROUNDS: u32 = 6;

/// Longer than an election, so that a paused leader is deposed.
const FREEZE: Duration = Duration::from_millis(2_500);

/// Makes one fault, and heals it.
async fn fault(cluster: &mut Cluster, random: &mut StdRng, books: &Books) -> anyhow::Result<()> {
    let leader = cluster.leader().await?;
    let follower = cluster.follower().await?;
    match random.random_range(0..5) {
        // Leadership is handed over in order: nothing that was settled may come again.
        0 | 1 => {
            let status = cluster.terminate(leader).await?;
            anyhow::ensure!(status.success(), "node {leader} ended with {status}");
            cluster.start(leader)?;
            cluster.wait_ready(leader).await?;
        }
        2 => {
            books.fault(Fault::begins());
            cluster.kill(leader).await?;
            cluster.start(leader)?;
            cluster.wait_ready(leader).await?;
            books.fault(Fault::ends());
        }
        3 => {
            cluster.kill(follower).await?;
            cluster.start(follower)?;
            cluster.wait_ready(follower).await?;
        }
        _ => {
            books.fault(Fault::begins());
            cluster.pause(leader)?;
            tokio::time::sleep(FREEZE).await;
            cluster.resume(leader)?;
            cluster.wait_ready(leader).await?;
            books.fault(Fault::ends());
        }
    }
    Ok(())
}

#[tokio::test]
async fn consumers_miss_nothing_and_get_nothing_again_that_an_ordered_stop_left_settled() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let seed = from_environment("FAULTS_SEED")?.unwrap_or(SEED);
    let rounds = from_environment("FAULTS_ROUNDS")?.unwrap_or(ROUNDS);
    eprintln!("FAULTS_SEED={seed} FAULTS_ROUNDS={rounds}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut trial = Trial::start(seed, Options::default()).await?;
    for round in 0..rounds {
        trial.go_on(trial::PHASE_EVENTS).await?;
        fault(&mut trial.cluster, &mut random, &trial.books).await.with_context(|| format!("in round {round}"))?;
    }
    trial.judge().await
}
