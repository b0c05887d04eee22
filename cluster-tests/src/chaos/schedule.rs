//! Which fault comes when: decided by the seed alone, before anything runs.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::nemesis::Nemesis;

/// Quiet time before a fault.
const BEFORE_MS: std::ops::RangeInclusive<u64> = 200..=1_500;

/// How long a fault is in force: from less than an election to several of them.
const FORCE_MS: std::ops::RangeInclusive<u64> = 300..=4_000;

/// One of so many steps has a second fault.
const SECOND_OF: u32 = 3;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blow {
    pub(super) nemesis: Nemesis,
    /// Decides which nodes are struck, among those that can be.
    pub(super) pick: u64,
}

/// One fault, or two at once, and the time for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) before: Duration,
    pub(super) blows: Vec<Blow>,
    pub(super) force: Duration,
}

/// Steps without end. All kinds come once in random order before one comes again.
#[derive(Debug)]
pub(super) struct Schedule {
    random: StdRng,
    nemeses: Vec<Nemesis>,
    /// Those still to come in this round.
    bag: Vec<Nemesis>,
}

impl Schedule {
    /// Steps of these kinds.
    pub(super) fn new(seed: u64, nemeses: &[Nemesis]) -> Self {
        Self { random: StdRng::seed_from_u64(seed), nemeses: nemeses.to_vec(), bag: Vec::new() }
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.bag.is_empty() {
            self.bag = self.nemeses.clone();
            self.bag.shuffle(&mut self.random);
        }
        let first = self.bag.pop()?;
        let mut kinds = vec![first];
        let company: Vec<Nemesis> = self.nemeses.iter().copied().filter(|other| first.goes_with(*other)).collect();
        let has_second = self.random.random_ratio(1, SECOND_OF);
        if has_second && !company.is_empty() {
            kinds.push(company[self.random.random_range(0..company.len())]);
        }
        let before = Duration::from_millis(self.random.random_range(BEFORE_MS));
        let force = Duration::from_millis(self.random.random_range(FORCE_MS));
        let blows = kinds.into_iter().map(|nemesis| Blow { nemesis, pick: self.random.random() }).collect();
        Some(Step { before, blows, force })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(seed: u64) -> Vec<Step> {
        Schedule::new(seed, &Nemesis::ALL).take(200).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn every_kind_comes_before_one_comes_again() {
        let mut first: Vec<Nemesis> =
            steps(7).iter().take(Nemesis::ALL.len()).map(|step| step.blows[0].nemesis).collect();
        first.sort();
        assert_eq!(first, Nemesis::ALL);
    }

    #[test]
    fn kinds_come_together_that_go_together() {
        let pairs: Vec<Step> = steps(7).into_iter().filter(|step| step.blows.len() == 2).collect();
        assert!(pairs.len() > 30, "{}", pairs.len());
        assert!(pairs.iter().all(|step| step.blows[0].nemesis.goes_with(step.blows[1].nemesis)));
    }

    #[test]
    fn without_kinds_nothing_comes() {
        assert_eq!(Schedule::new(7, &[]).next(), None);
    }
}
