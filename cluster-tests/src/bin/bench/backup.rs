//! What a backup costs those who read and write meanwhile: rounds with a backup that is taken again
//! and again, in turns with rounds without one.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use headwater_cluster_tests::client::ADMIN;
use headwater_cluster_tests::process::headwater_binary;
use tokio::task::JoinHandle;

use crate::Plan;
use crate::generator::{self, Pace};
use crate::headwater::Headwater;
use crate::load::{Contender, Round, Series, one_round};
use crate::report::{Ratio, Section};
use crate::scenarios::{MANY, other_pages, plain};

/// Compares appends and reads of one node with those while a backup of it runs, as fast as a backup
/// reads unless it is told otherwise, into a plain archive on the same disk.
pub(crate) async fn load_during_backup(plan: &Plan) -> anyhow::Result<Section> {
    let mut section = Section::new(format!("One node of {} events, while a backup of it is taken", plan.events));
    let mut node = Headwater::start(1).await?;
    node.fill(plan.events).await?;
    node.settle().await?;
    let pages = Contender {
        name: "another old page each time".to_owned(),
        load: plain(node.leader().await?, MANY, other_pages(node.run, ""), 200, plan),
        pids: node.pids()?,
    };
    let appends = Contender {
        name: "append".to_owned(),
        load: node.appends(node.leader().await?, MANY, plan.round, Pace::Closed),
        pids: node.pids()?,
    };
    for mut contender in [pages, appends] {
        let name = contender.name.clone();
        let Compared { quiet, busy, backups } = compare(&node, &mut contender, plan).await?;
        let rate = format!("{name}: per second, with / without a backup");
        section.ratios.push(Ratio::of(rate, "target: at least 0.75", &busy, &quiet, |round| round.per_second));
        let latency = format!("{name}: p99, with / without a backup");
        section.ratios.push(Ratio::of(latency, "target: at most 1.5", &busy, &quiet, |round| round.latency_us[2]));
        section.fact(format!("{name}: backups that came to their end"), backups as f64, "", "");
        section.series.extend([quiet, busy]);
    }
    node.stop().await?;
    Ok(section)
}

/// Rounds of the same load without and with a backup.
struct Compared {
    quiet: Series,
    busy: Series,
    /// Backups that came to their end during the second kind.
    backups: u64,
}

async fn compare(node: &Headwater, contender: &mut Contender, plan: &Plan) -> anyhow::Result<Compared> {
    let base = format!("http://{}", node.leader().await?);
    let mut warm_up = contender.load.clone();
    warm_up.duration /= 4;
    contender.load.first_number += generator::run(warm_up).await?.sent;
    let (mut quiet, mut busy, mut backups) = (Vec::new(), Vec::new(), 0);
    for round in 0..plan.rounds {
        // Every second pair in the opposite order.
        for is_busy in [round % 2 == 1, round % 2 == 0] {
            if is_busy {
                let running = Backups::start(&base)?;
                busy.push(one_round(contender).await?);
                backups += running.stop().await?;
            } else {
                quiet.push(one_round(contender).await?);
            }
        }
    }
    let series = |name: String, rounds: Vec<Round>| Series { name, connections: contender.load.connections, rounds };
    for (kind, rounds) in [("without", &quiet), ("with", &busy)] {
        for round in rounds {
            let [_, _, p99, ..] = round.latency_us;
            eprintln!("  {}, {kind} a backup: {:.0}/s, p99 {p99:.0} us", contender.name, round.per_second);
        }
    }
    Ok(Compared {
        quiet: series(contender.name.clone(), quiet),
        busy: series(format!("{}, while a backup is taken", contender.name), busy),
        backups,
    })
}

/// One backup after the other.
struct Backups {
    stopping: Arc<AtomicBool>,
    /// Counts those that came to their end.
    task: JoinHandle<anyhow::Result<u64>>,
}

impl Backups {
    fn start(base: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("no temporary directory")?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (program, base, stop) = (headwater_binary()?, base.to_owned(), stopping.clone());
        let task = tokio::spawn(async move {
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                take(&program, &base, &directory.path().join(format!("{done}.tar"))).await?;
                done += 1;
            }
            Ok(done)
        });
        Ok(Self { stopping, task })
    }

    /// Returns when the backup under way has come to its end.
    async fn stop(self) -> anyhow::Result<u64> {
        self.stopping.store(true, Ordering::Relaxed);
        self.task.await.context("the backups failed")?
    }
}

async fn take(program: &Path, base: &str, target: &Path) -> anyhow::Result<()> {
    let mut backup = tokio::process::Command::new(program);
    backup.args(["backup", "--from", base, "--user", ADMIN.0, "--to"]).arg(target);
    backup.env("HEADWATER_PASSWORD", ADMIN.1).stderr(Stdio::piped()).kill_on_drop(true);
    let output = backup.output().await.context("the backup cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "a backup ended with {}: {said}", output.status);
    std::fs::remove_file(target).context("the backup cannot be removed")
}
