//! The common end of every fault test: heal, read every node, judge.

use std::time::Duration;

use crate::check;
use crate::cluster::Cluster;
use crate::feed::{self, NodeFeed};
use crate::history::History;
use crate::workload::Workload;

/// Nodes that differ for longer than this after healing count as different.
const AGREEMENT_LIMIT: Duration = Duration::from_secs(30);

/// Events per page when a whole log is read; the most that a page may have (contract/streams 2.5).
const PAGE: usize = 4096;

/// Stops the load, reads all nodes (all must run and be ready) and applies every rule.
/// `also_allowed` lists the log lines that this test provokes. Prints how long each fault
/// interrupted writes.
pub async fn judge(
    cluster: &mut Cluster,
    workload: Workload,
    resume_limit: Duration,
    also_allowed: &[&str],
) -> anyhow::Result<(History, Vec<NodeFeed>)> {
    cluster.wait_all_ready().await?;
    // Proof that the healed cluster takes writes through every writer's home node.
    workload.progress(50, AGREEMENT_LIMIT).await?;
    let history = workload.stop().await?;
    let feeds = feed::read_all(cluster.client(), &cluster.bases(), PAGE, AGREEMENT_LIMIT).await?;

    eprintln!("{} events acknowledged, {} stored", history.acknowledged_events(), feeds[0].events.len());
    eprintln!("{}", check::availability::report(&history));

    let mut violations = check::data(&history, &feeds);
    violations.extend(check::availability::check(&history, resume_limit));
    violations.extend(check::logs::check(&cluster.logs()?, also_allowed)?);
    check::none(&violations)?;
    cluster.passed()?;
    Ok((history, feeds))
}
