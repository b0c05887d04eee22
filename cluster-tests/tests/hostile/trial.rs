//! One attack, with honest clients before it, beside it and after it.

use std::time::{Duration, Instant};

use anyhow::Context;
use headwater_cluster_tests::usage;

use crate::Form;
use crate::attack::{self, Attack};
use crate::door::Door;
use crate::honest::{self, Figures};

/// Delays below this are the noise of a busy machine: twice nothing is nothing.
const LEAST_DELAY: Duration = Duration::from_millis(25);

/// Trials of one attack.
const ATTEMPTS: usize = 3;

/// A node has done what the attack asked for at once, and holds the rest, when within
/// [`SETTLED_FOR`] its memory grows by less than this and it works for less than that.
const SETTLED_BYTES: u64 = 4 << 20;
const SETTLED_WORK: Duration = Duration::from_millis(100);
const SETTLED_FOR: Duration = Duration::from_millis(500);

/// What has not settled by then is judged as it is.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// After an attack a node is what it was before within this.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// What honest clients got, and what the node held.
#[derive(Debug)]
struct Trial {
    name: &'static str,
    connections: usize,
    before: Figures,
    beside: Figures,
    after: Figures,
    /// More than before the attack.
    grown_bytes: u64,
    bound_bytes: u64,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Whether honest clients are served, and what the node holds: what other work on the machine
    /// does not change.
    Outcome,
    /// Their rate and delay as well.
    Rates,
}

/// The nodes that a trial is about.
pub(crate) struct Doors<'a> {
    /// Is attacked.
    pub(crate) attacked: &'a Door,
    pub(crate) attacked_pid: u32,
    /// Serves honest clients.
    pub(crate) honest: &'a Door,
}

/// Makes an attack and returns what does not hold. A busy machine may spoil one trial, but not each
/// of several.
pub(crate) async fn faults(doors: &Doors<'_>, attack: &Attack, form: Form, judged: Judged) -> Vec<String> {
    let mut faults = Vec::new();
    for _ in 0..ATTEMPTS {
        faults = match run(doors, attack, form).await {
            Ok(trial) => {
                eprintln!("{}", trial.line());
                match judged {
                    Judged::Outcome => trial.faults_of_outcome(),
                    Judged::Rates => [trial.faults_of_outcome(), trial.faults_of_rates(form)].concat(),
                }
            }
            Err(error) => vec![format!("{error:#}")],
        };
        if faults.is_empty() {
            break;
        }
    }
    faults.into_iter().map(|fault| format!("{}: {fault}", attack.name)).collect()
}

async fn run(doors: &Doors<'_>, attack: &Attack, form: Form) -> anyhow::Result<Trial> {
    let connections = form.connections();
    let pid = doors.attacked_pid;
    let before = honest::work(doors.honest, form.period()).await?;
    let resident = resident(pid)?;
    usage::forget_highest_resident(pid)?;
    let held =
        tokio::time::timeout(attack::BEGIN_LIMIT, (attack.begin)(doors.attacked.with_small_buffers(), connections));
    let held = held.await.context("the attack did not begin in time")??;
    settle(pid).await?;
    let beside = honest::work(doors.honest, form.period()).await?;
    let grown_bytes = usage::resident_bytes(pid)?.1.saturating_sub(resident);
    drop(held);
    let after = recovered(doors.honest, form).await?;
    let bound_bytes = attack.bound.bytes(connections);
    Ok(Trial { name: attack.name, connections, before, beside, after, grown_bytes, bound_bytes })
}

fn resident(pid: u32) -> anyhow::Result<u64> {
    Ok(usage::resident_bytes(pid)?.0)
}

/// Bytes as people read them.
fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

/// Waits until the node has answered what was asked at once, as it would answer anybody: what is
/// judged is what it costs to go on beside those who hold on to it, or keep it at work.
async fn settle(pid: u32) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut last = (resident(pid)?, usage::cpu_time(pid)?);
    while started.elapsed() < SETTLE_LIMIT {
        tokio::time::sleep(SETTLED_FOR).await;
        let now = (resident(pid)?, usage::cpu_time(pid)?);
        if now.0 < last.0 + SETTLED_BYTES && now.1 < last.1 + SETTLED_WORK {
            break;
        }
        last = now;
    }
    Ok(())
}

/// What honest clients get once they all get it.
async fn recovered(door: &Door, form: Form) -> anyhow::Result<Figures> {
    let started = Instant::now();
    loop {
        let figures = honest::work(door, form.period()).await?;
        if figures.errors.is_empty() {
            return Ok(figures);
        }
        let waited = started.elapsed();
        anyhow::ensure!(waited < RECOVERY_LIMIT, "not served {waited:?} after the attack: {:?}", figures.errors);
    }
}

impl Trial {
    fn faults_of_outcome(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.beside.errors.is_empty() {
            faults.push(format!("honest clients were not served: {}", self.beside.errors.join("; ")));
        }
        if self.grown_bytes > self.bound_bytes {
            let (grown, bound) = (mib(self.grown_bytes), mib(self.bound_bytes));
            faults.push(format!("{grown} MiB more in memory, and {bound} MiB are the most"));
        }
        faults
    }

    fn faults_of_rates(&self, form: Form) -> Vec<String> {
        let mut faults = Vec::new();
        // The slower of both: the machine may be busier with something else now than before.
        let rate = self.before.rate.min(self.after.rate);
        if self.beside.rate < form.least_rate() * rate {
            faults.push(format!("{:.0} answers a second instead of {rate:.0}", self.beside.rate));
        }
        let p99 = self.before.p99.max(self.after.p99).max(LEAST_DELAY);
        if self.beside.p99 > p99.mul_f64(form.most_delay()) {
            faults.push(format!("the slowest hundredth took {:?} instead of {p99:?}", self.beside.p99));
        }
        faults
    }

    /// One line for people.
    fn line(&self) -> String {
        format!(
            "{}, {} connections: {:.0} -> {:.0} -> {:.0} answers a second, p99 {:?} -> {:?} -> {:?}, {} of {} MiB",
            self.name,
            self.connections,
            self.before.rate,
            self.beside.rate,
            self.after.rate,
            self.before.p99,
            self.beside.p99,
            self.after.p99,
            mib(self.grown_bytes),
            mib(self.bound_bytes),
        )
    }
}
