//! Seeds that are simulated with every run of the unit tests, and the duty `make simulate`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::flaw::{FLAWS, Flaw};
use super::process::{self, Options, Report, simulate};

/// Seeds of every run.
const SEEDS: std::ops::Range<u64> = 1..3;

/// Seeds that have found a fault once.
const FOUND: &[u64] = &[];

fn passes(seed: u64) -> Report {
    let report = simulate(seed, &Options::default());
    if let Some((rule, trace)) = &report.broken {
        panic!("seed {seed}: {rule}\n{trace}\nagain: make simulate SEED={seed} SEEDS=1");
    }
    report
}

#[test]
fn clusters_keep_their_promises_under_simulated_faults() {
    for seed in SEEDS.chain(FOUND.iter().copied()) {
        let report = passes(seed);
        assert!(report.succeeded > 0, "{report:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let (first, again, other) = (passes(7), passes(7), passes(8));
    assert_eq!((first.events, first.hash), (again.events, again.hash));
    assert_ne!(first.hash, other.hash);
}

/// One simulation, in the process that [`simulate`] has made for it.
#[test]
#[ignore = "the inside of the others"]
fn one_seed() {
    process::run();
}

/// The first seed of the first hundred that finds this fault, and how.
fn finder(options: &Options) -> (u64, String) {
    let mut found = (1..=100).filter_map(|seed| Some((seed, simulate(seed, options).broken?.0)));
    let found = found.next().unwrap_or_else(|| panic!("no seed of the first hundred finds {options:?}"));
    println!("{options:?}: seed {}: {}", found.0, found.1);
    found
}

#[test]
fn disks_that_do_not_sync_are_found() {
    let (_, rule) = finder(&Options { flaw: Some(Flaw::DisksLie), ..Options::default() });
    assert!(rule.contains("does not start"), "{rule}");
}

/// `make simulate-mutants`.
#[test]
#[ignore = "a duty of its own: make simulate-mutants"]
fn deliberate_faults_are_found() {
    for flaw in FLAWS {
        finder(&Options { flaw: Some(*flaw), ..Options::default() });
    }
    for fault in process::FAULTS {
        finder(&Options { fault: Some(*fault), ..Options::default() });
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Figures of many simulations.
#[derive(Default)]
struct Sums {
    seeds: u64,
    seconds: u64,
    messages: u64,
    operations: u64,
    acknowledged: u64,
    strikes: u64,
    terms: u64,
    broken: Vec<u64>,
}

impl Sums {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.seconds += report.simulated_ms / 1_000;
        self.messages += report.messages;
        self.operations += report.operations;
        self.acknowledged += report.succeeded;
        self.strikes += report.strikes;
        self.terms += report.terms;
        if let Some((rule, newest)) = &report.broken {
            let seed = report.seed;
            println!("{newest}\nSEED {seed} IS BROKEN: {rule}\nagain: make simulate SEED={seed} SEEDS=1 TRACE=file");
            self.broken.push(seed);
        }
    }

    fn print(&self, elapsed: Duration) {
        let Self { seeds, seconds, messages, operations, acknowledged, strikes, terms, broken } = self;
        let per_hour = *seeds as f64 * 3_600.0 / elapsed.as_secs_f64();
        println!(
            "{seeds} seeds, {per_hour:.0} an hour: {seconds} simulated seconds, {messages} messages, {operations} operations, \
             {acknowledged} acknowledged writes, {strikes} faults, {terms} terms; broken: {broken:?}"
        );
    }
}

/// `make simulate`.
#[test]
#[ignore = "a duty of its own: make simulate SEEDS=n SEED=first"]
fn many_seeds() {
    let (first, count) = (number("SEED", 1), number("SEEDS", 100));
    let workers = number("WORKERS", std::thread::available_parallelism().map_or(1, usize::from) as u64);
    let options = Options { trace: std::env::var_os("TRACE").map(PathBuf::from), ..Options::default() };
    let started = Instant::now();
    let next = AtomicU64::new(first);
    let sums = Mutex::new((Sums::default(), started));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let report = simulate(seed, &options);
                    let (sums, told) = &mut *sums.lock();
                    sums.add(&report);
                    if told.elapsed() > Duration::from_secs(10) {
                        *told = Instant::now();
                        sums.print(started.elapsed());
                    }
                }
            });
        }
    });
    let sums = sums.into_inner().0;
    sums.print(started.elapsed());
    assert!(sums.broken.is_empty(), "broken: {:?}", sums.broken);
}
