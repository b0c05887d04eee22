//! What all consumers got, and what they have settled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the leader may lose of what was settled when it dies: it stores that every second, or after
/// 500 messages. A debug build on a busy machine is slower.
const UNSTORED: Duration = Duration::from_millis(2_500);

/// How a message was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is done.
    Acknowledged,
    /// Nobody wants it.
    Skipped,
    /// It was put aside.
    Parked,
}

/// The beginning or the end of a fault that may lose what was not stored.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    at: Instant,
    begins: bool,
}

impl Fault {
    /// It begins now.
    pub fn begins() -> Self {
        Self { at: Instant::now(), begins: true }
    }

    /// It ends now.
    pub fn ends() -> Self {
        Self::ends_at(Instant::now())
    }

    /// It ended at that time.
    pub fn ends_at(at: Instant) -> Self {
        Self { at, begins: false }
    }
}

/// The books of all consumers.
#[derive(Debug, Default)]
pub struct Books {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Number, consumer, and when it asked.
    got: Vec<(u64, u64, Instant)>,
    /// How each message was settled, and when that was answered, for the first time.
    settled: BTreeMap<u64, (Settled, Instant)>,
    /// Messages that a consumer has tried to settle, answered or not.
    tried: BTreeSet<u64>,
    faults: Vec<Fault>,
    /// From when to when leaders have changed, for whatever reason.
    changes: Vec<(Instant, Instant)>,
    /// What was new to everybody and came out of order.
    disorder: Vec<String>,
}

impl Books {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A consumer got these messages, in this order; it asked at that time.
    pub fn got(&self, consumer: u64, asked: Instant, numbers: &[u64]) {
        let mut inner = self.inner();
        let known: BTreeSet<u64> = inner.got.iter().map(|(number, ..)| *number).collect();
        let new: Vec<u64> = numbers.iter().copied().filter(|number| !known.contains(number)).collect();
        if !new.is_sorted() {
            inner.disorder.push(format!("consumer {consumer} got {new:?}, which nobody had before, in this order"));
        }
        inner.got.extend(numbers.iter().map(|number| (*number, consumer, asked)));
    }

    /// A consumer is about to settle these messages for good.
    pub fn tries(&self, numbers: impl IntoIterator<Item = u64>) {
        self.inner().tried.extend(numbers);
    }

    /// A message was settled, and the answer came at that time.
    pub fn settle(&self, number: u64, settled: Settled, answered: Instant) {
        self.inner().settled.entry(number).or_insert((settled, answered));
    }

    /// What was settled about that time may be lost.
    pub fn fault(&self, fault: Fault) {
        self.inner().faults.push(fault);
    }

    /// Another node leads than before: what was settled about that time may be lost, too. On a
    /// machine that is busy enough that happens without a fault of a test.
    pub fn leader_changed(&self, from: Instant, until: Instant) {
        self.inner().changes.push((from, until));
    }

    /// How many messages were settled.
    pub fn settled(&self) -> usize {
        self.inner().settled.len()
    }

    /// Compares the books with `stored` events, all of which the group has settled, and with the
    /// numbers of those that it has parked. Returns what is wrong.
    pub fn faults(&self, stored: u64, parked: &[u64], ended: Instant) -> Vec<String> {
        let inner = self.inner();
        let mut faults = inner.disorder.clone();
        let got: BTreeSet<u64> = inner.got.iter().map(|(number, ..)| *number).collect();
        faults.extend((0..stored).filter(|number| !got.contains(number)).map(|number| format!("nobody got {number}")));
        faults.extend(got.range(stored..).map(|number| format!("{number} was delivered and never stored")));
        let distinct: BTreeSet<u64> = parked.iter().copied().collect();
        let is_left = |number: &&u64| **number < stored && !inner.tried.contains(number) && !distinct.contains(number);
        faults
            .extend(got.iter().filter(is_left).map(|number| format!("{number} was not settled and never came again")));
        if distinct.len() != parked.len() {
            faults.push(format!("some messages are parked twice: {parked:?}"));
        }
        for (number, (settled, answered)) in &inner.settled {
            if *settled == Settled::Parked && !distinct.contains(number) && !inner.may_be_lost(*answered) {
                faults.push(format!("{number} was to be parked, and is not"));
            }
        }
        for (number, consumer, asked) in &inner.got {
            let Some((settled, answered)) = inner.settled_before(*number, *asked) else { continue };
            if !inner.may_be_lost(answered) {
                faults.push(format!(
                    "{number} was {settled:?} {:?} before the end, and consumer {consumer} got it again {:?} later",
                    ended.duration_since(answered),
                    asked.duration_since(answered),
                ));
            }
        }
        faults
    }

    /// The same as an error, or else figures.
    pub fn judge(&self, stored: u64, parked: &[u64], ended: Instant) -> anyhow::Result<String> {
        let faults = self.faults(stored, parked, ended);
        anyhow::ensure!(
            faults.is_empty(),
            "{} faults, the first ones: {:#?}",
            faults.len(),
            &faults[..faults.len().min(20)]
        );
        let inner = self.inner();
        let is_again = |(number, _, asked): &&(u64, u64, Instant)| inner.settled_before(*number, *asked).is_some();
        let again = inner.got.iter().filter(is_again).count();
        let has_no_answer = |number: &u64| !inner.settled.contains_key(number) && !parked.contains(number);
        let unsettled = (0..stored).filter(has_no_answer).count();
        Ok(format!(
            "{stored} events, {} deliveries, {} settled by answer, {} parked; {again} came again after a fault, \
             {unsettled} settled without an answer",
            inner.got.len(),
            inner.settled.len(),
            parked.len(),
        ))
    }
}

impl Inner {
    /// How a message was settled, and when, if that was before this time.
    fn settled_before(&self, number: u64, asked: Instant) -> Option<(Settled, Instant)> {
        self.settled.get(&number).copied().filter(|(_, answered)| *answered < asked)
    }

    /// Whether what was settled at that time may have been lost by a fault.
    fn may_be_lost(&self, answered: Instant) -> bool {
        let is_within = |from: Instant, until: Instant| answered + UNSTORED >= from && answered <= until;
        if self.changes.iter().any(|(from, until)| is_within(*from, *until)) {
            return true;
        }
        let mut begun = None;
        for fault in &self.faults {
            match begun {
                None if fault.begins => begun = Some(fault.at),
                Some(from) if !fault.begins => {
                    if is_within(from, fault.at) {
                        return true;
                    }
                    begun = None;
                }
                _ => {}
            }
        }
        begun.is_some_and(|from| answered + UNSTORED >= from)
    }
}
