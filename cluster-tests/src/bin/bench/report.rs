//! The figures, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use crate::load::{Series, median};

/// A measured ratio with its target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ratio {
    /// The two sides of the ratio.
    pub(crate) name: String,
    /// Median of the rounds.
    pub(crate) median: f64,
    /// Lowest round.
    pub(crate) lowest: f64,
    /// Highest round.
    pub(crate) highest: f64,
    /// The target, for people.
    pub(crate) target: String,
}

impl Ratio {
    /// Divides round by round: rounds with the same number ran at almost the same time.
    pub(crate) fn of(
        name: impl Into<String>,
        target: &str,
        numerator: &Series,
        denominator: &Series,
        figure: impl Fn(&crate::load::Round) -> f64,
    ) -> Self {
        let ratios: Vec<f64> =
            numerator.rounds.iter().zip(&denominator.rounds).map(|(one, other)| figure(one) / figure(other)).collect();
        Self {
            name: name.into(),
            lowest: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            highest: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            median: median(ratios),
            target: target.to_owned(),
        }
    }
}

/// A single figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fact {
    /// Its name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// The target, for people; empty when there is none.
    pub(crate) target: String,
}

/// One group of comparisons.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Section {
    /// Title.
    pub(crate) title: String,
    /// Throughput and latency.
    pub(crate) series: Vec<Series>,
    /// Comparisons.
    pub(crate) ratios: Vec<Ratio>,
    /// All other figures.
    pub(crate) facts: Vec<Fact>,
}

impl Section {
    /// An empty section.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Adds a figure.
    pub(crate) fn fact(&mut self, name: impl Into<String>, value: f64, unit: &'static str, target: &str) {
        self.facts.push(Fact { name: name.into(), value, unit, target: target.to_owned() });
    }
}

/// Everything that was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    /// In the order of measurement.
    pub(crate) sections: Vec<Section>,
}

impl Report {
    /// Failed requests.
    pub(crate) fn errors(&self) -> u64 {
        self.sections.iter().flat_map(|section| &section.series).map(Series::errors).sum()
    }

    /// As a readable table.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            // Writing to a string cannot fail.
            let _ = section.write(&mut text);
        }
        if self.errors() > 0 {
            let _ = writeln!(text, "\n!!! {} REQUESTS HAD ERRORS: THESE FIGURES MUST NOT BE USED !!!", self.errors());
            for series in self.sections.iter().flat_map(|section| &section.series) {
                if let Some(error) = series.rounds.iter().find_map(|round| round.first_error.as_ref()) {
                    let _ = writeln!(text, "{} at {}: {error}", series.name, series.connections);
                }
            }
        }
        text
    }
}

impl Section {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "\n== {} ==", self.title)?;
        if !self.series.is_empty() {
            writeln!(
                text,
                "{:<34} {:>5} {:>9} {:>19} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>6} {:>9} {:>6}",
                "",
                "conns",
                "req/s",
                "(lowest-highest)",
                "p50 us",
                "p90",
                "p99",
                "p99.9",
                "max",
                "cpu us",
                "gen us",
                "cores",
                "/s/core",
                "errors"
            )?;
        }
        for series in &self.series {
            let rates: Vec<f64> = series.rounds.iter().map(|round| round.per_second).collect();
            let lowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = rates.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            write!(
                text,
                "{:<34} {:>5} {:>9.0} {:>19}",
                series.name,
                series.connections,
                median(rates),
                format!("({lowest:.0}-{highest:.0})")
            )?;
            for quantile in 0..5 {
                write!(text, " {:>8.0}", series.median(|round| round.latency_us[quantile]))?;
            }
            let cores = series.median(|round| round.server_cores);
            writeln!(
                text,
                " {:>8.1} {:>7.1} {:>6.2} {:>9.0} {:>6}",
                series.median(|round| round.server_cpu_us),
                series.median(|round| round.generator_cpu_us),
                cores,
                series.median(|round| round.per_second / round.server_cores.max(0.01)),
                series.errors()
            )?;
        }
        for ratio in &self.ratios {
            writeln!(
                text,
                "  {:<60} {:>6.2} ({:.2}-{:.2})  {}",
                ratio.name, ratio.median, ratio.lowest, ratio.highest, ratio.target
            )?;
        }
        for fact in &self.facts {
            writeln!(text, "  {:<60} {:>10.2} {}  {}", fact.name, fact.value, fact.unit, fact.target)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Round;

    fn series(name: &str, rates: &[f64], errors: u64) -> Series {
        let round = |per_second: &f64| Round {
            per_second: *per_second,
            latency_us: [1.0; 5],
            errors,
            first_error: (errors > 0).then(|| "status 500".to_owned()),
            server_cpu_us: 1.0,
            generator_cpu_us: 1.0,
            server_cores: 1.0,
            body_bytes: 0,
        };
        Series { name: name.to_owned(), connections: 1, rounds: rates.iter().map(round).collect() }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let ratio = Ratio::of("a / b", "", &series("a", &[10.0, 30.0], 0), &series("b", &[5.0, 10.0], 0), |round| {
            round.per_second
        });
        assert_eq!((ratio.lowest, ratio.median, ratio.highest), (2.0, 2.5, 3.0));
    }

    #[test]
    fn errors_are_loud() {
        let mut section = Section::new("x");
        section.series.push(series("a", &[1.0], 3));
        let report = Report { sections: vec![section] };
        assert_eq!(report.errors(), 3);
        assert!(report.table().contains("MUST NOT BE USED") && report.table().contains("status 500"));
    }
}
