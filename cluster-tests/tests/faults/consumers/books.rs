//! What all consumers got, and what they have settled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What the leader may lose of what was settled when it dies: it stores that every second, or after
/// 500 messages. A debug build on a busy machine is slower.
const UNSTORED: Duration = Duration::from_millis(2_500);

/// How a message was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Acknowledged,
    Skipped,
    Parked,
}

/// The beginning or the end of a fault that may lose what was not stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    at: Instant,
    begins: bool,
}

impl Fault {
    pub(super) fn begins() -> Self {
        Self { at: Instant::now(), begins: true }
    }

    pub(super) fn ends() -> Self {
        Self::ends_at(Instant::now())
    }

    pub(super) fn ends_at(at: Instant) -> Self {
        Self { at, begins: false }
    }
}

/// The books of all consumers.
#[derive(Default)]
pub(super) struct Books {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Number, consumer, and when it asked.
    got: Vec<(u64, u64, Instant)>,
    /// How each message was settled, and when that was answered, for the first time.
    settled: BTreeMap<u64, (Settled, Instant)>,
    faults: Vec<Fault>,
    /// What was new to everybody and came out of order.
    disorder: Vec<String>,
}

impl Books {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds this")
    }

    /// A consumer got these messages, in this order; it asked at that time.
    pub(super) fn got(&self, consumer: u64, asked: Instant, numbers: &[u64]) {
        let mut inner = self.inner();
        let known: BTreeSet<u64> = inner.got.iter().map(|(number, ..)| *number).collect();
        let new: Vec<u64> = numbers.iter().copied().filter(|number| !known.contains(number)).collect();
        if !new.is_sorted() {
            inner.disorder.push(format!("consumer {consumer} got {new:?}, which nobody had before, in this order"));
        }
        inner.got.extend(numbers.iter().map(|number| (*number, consumer, asked)));
    }

    /// A message was settled, and the answer came at that time.
    pub(super) fn settle(&self, number: u64, settled: Settled, answered: Instant) {
        self.inner().settled.entry(number).or_insert((settled, answered));
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.inner().faults.push(fault);
    }

    /// How many messages were settled.
    pub(super) fn settled(&self) -> usize {
        self.inner().settled.len()
    }

    /// Compares the books with `stored` events, all of which the group has settled, and with the
    /// numbers of those that it has parked.
    pub(super) fn judge(&self, stored: u64, parked: &[u64], ended: Instant) -> anyhow::Result<String> {
        let inner = self.inner();
        let mut faults = inner.disorder.clone();
        let got: BTreeSet<u64> = inner.got.iter().map(|(number, ..)| *number).collect();
        faults.extend((0..stored).filter(|number| !got.contains(number)).map(|number| format!("nobody got {number}")));
        faults.extend(got.range(stored..).map(|number| format!("{number} was delivered and never stored")));
        let distinct: BTreeSet<u64> = parked.iter().copied().collect();
        if distinct.len() != parked.len() {
            faults.push(format!("some messages are parked twice: {parked:?}"));
        }
        for (number, (settled, answered)) in &inner.settled {
            if *settled == Settled::Parked && !distinct.contains(number) && !inner.may_be_lost(*answered) {
                faults.push(format!("{number} was to be parked, and is not"));
            }
        }
        let may_lose = |answered: Instant| inner.may_be_lost(answered);
        let mut again = 0;
        for (number, consumer, asked) in &inner.got {
            let Some((settled, answered)) = inner.settled.get(number).filter(|(_, answered)| answered < asked) else {
                continue;
            };
            again += 1;
            if !may_lose(*answered) {
                faults.push(format!(
                    "{number} was {settled:?} {:?} before the end, and consumer {consumer} got it again {:?} later",
                    ended.duration_since(*answered),
                    asked.duration_since(*answered),
                ));
            }
        }
        let unsettled = (0..stored).filter(|number| !inner.settled.contains_key(number) && !distinct.contains(number));
        let unsettled: Vec<u64> = unsettled.collect();
        anyhow::ensure!(
            faults.is_empty(),
            "{} faults, the first ones: {:#?}",
            faults.len(),
            &faults[..faults.len().min(20)]
        );
        Ok(format!(
            "{stored} events, {} deliveries, {} settled by answer, {} parked; {again} came again after a fault, {} settled without an answer",
            inner.got.len(),
            inner.settled.len(),
            parked.len(),
            unsettled.len()
        ))
    }
}

impl Inner {
    /// Whether what was settled at that time may have been lost by a fault.
    fn may_be_lost(&self, answered: Instant) -> bool {
        let mut begun = None;
        for fault in &self.faults {
            match begun {
                None if fault.begins => begun = Some(fault.at),
                Some(from) if !fault.begins => {
                    if answered + UNSTORED >= from && answered <= fault.at {
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
