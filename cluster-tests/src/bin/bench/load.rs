//! Interleaved rounds, A B A B, so that other work on the machine affects both sides.

use std::time::Duration;

use headwater_cluster_tests::usage;
use serde::Serialize;

use crate::generator::{self, Load, Measured};

/// One side of a comparison.
#[derive(Debug)]
pub(crate) struct Contender {
    /// Name in the report.
    pub(crate) name: String,
    /// The load to send to it in every round.
    pub(crate) load: Load,
    /// Processes whose CPU time is charged.
    pub(crate) pids: Vec<u32>,
}

/// Figures of one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    /// Successes per second.
    pub(crate) per_second: f64,
    /// Latency percentiles in microseconds: p50, p90, p99, p99.9, highest.
    pub(crate) latency_us: [f64; 5],
    /// Failed requests.
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) first_error: Option<String>,
    /// CPU microseconds of all server processes per success.
    pub(crate) server_cpu_us: f64,
    /// CPU microseconds of the generator per success.
    pub(crate) generator_cpu_us: f64,
    /// Cores that the servers kept busy.
    pub(crate) server_cores: f64,
    /// Body bytes of an answer.
    pub(crate) body_bytes: usize,
}

/// All rounds of one side.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Series {
    /// Name of the side.
    pub(crate) name: String,
    /// Connections.
    pub(crate) connections: usize,
    /// The rounds, in order.
    pub(crate) rounds: Vec<Round>,
}

impl Series {
    /// The median of a figure over the rounds.
    pub(crate) fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(figure).collect())
    }

    /// Failed requests of all rounds.
    pub(crate) fn errors(&self) -> u64 {
        self.rounds.iter().map(|round| round.errors).sum()
    }
}

/// The middle value; the mean of the two middle ones when their number is even.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Part of a round that is run before it, unmeasured, to warm up connections, caches and
/// allocators.
const WARM_UP_SHARE: u32 = 4;

/// Runs `rounds` rounds of every contender, interleaved. Every second round runs in the opposite
/// order, so that no contender always runs after the compaction of the same other one.
pub(crate) async fn interleaved(contenders: &mut [Contender], rounds: usize) -> anyhow::Result<Vec<Series>> {
    let mut series: Vec<Series> = contenders
        .iter()
        .map(|contender| Series {
            name: contender.name.clone(),
            connections: contender.load.connections,
            rounds: Vec::new(),
        })
        .collect();
    for contender in contenders.iter_mut() {
        let mut warm_up = contender.load.clone();
        warm_up.duration /= WARM_UP_SHARE;
        let measured = generator::run(warm_up).await?;
        contender.load.first_number += measured.sent;
    }
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let contender = &mut contenders[index];
            let measured = one_round(contender).await?;
            eprintln!(
                "  {} at {}: {:.0}/s, p50 {:.0} us, server {:.1} us, generator {:.1} us",
                contender.name,
                contender.load.connections,
                measured.per_second,
                measured.latency_us[0],
                measured.server_cpu_us,
                measured.generator_cpu_us,
            );
            series[index].rounds.push(measured);
        }
    }
    Ok(series)
}

/// One round of a contender.
pub(crate) async fn one_round(contender: &mut Contender) -> anyhow::Result<Round> {
    let own = std::process::id();
    let servers_before = usage::cpu_time_of_all(&contender.pids)?;
    let own_before = usage::cpu_time(own)?;
    let measured = generator::run(contender.load.clone()).await?;
    let servers = usage::cpu_time_of_all(&contender.pids)?.saturating_sub(servers_before);
    let generator = usage::cpu_time(own)?.saturating_sub(own_before);
    contender.load.first_number += measured.sent;
    Ok(figures(&measured, servers, generator))
}

fn figures(measured: &Measured, servers: Duration, generator: Duration) -> Round {
    let successes = measured.latencies.len().max(1) as f64;
    let microseconds = |quantile: f64| measured.latencies.value_at_quantile(quantile) as f64 / 1e3;
    Round {
        per_second: measured.per_second(),
        latency_us: [
            microseconds(0.5),
            microseconds(0.9),
            microseconds(0.99),
            microseconds(0.999),
            measured.latencies.max() as f64 / 1e3,
        ],
        errors: measured.errors,
        first_error: measured.first_error.clone(),
        server_cpu_us: servers.as_secs_f64() * 1e6 / successes,
        generator_cpu_us: generator.as_secs_f64() * 1e6 / successes,
        server_cores: servers.as_secs_f64() / measured.elapsed.as_secs_f64(),
        body_bytes: measured.body_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
