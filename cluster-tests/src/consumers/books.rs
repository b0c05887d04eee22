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

/// What a consumer asks for about messages that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// They are settled for good.
    Settle(Settled),
    /// They are to come again.
    Retry,
}

/// A request about messages that a consumer has.
#[derive(Debug)]
struct Attempt {
    consumer: u64,
    numbers: Vec<u64>,
    wish: Wish,
    sent: Instant,
    /// When it was accepted. Otherwise it may still be under way: a link that is cut holds what
    /// was sent until it heals.
    accepted: Option<Instant>,
    /// It was accepted while the messages were certainly out.
    in_time: bool,
}

/// An attempt in the books of its consumer.
#[derive(Debug, Clone, Copy)]
pub struct AttemptId(usize);

#[derive(Debug, Default)]
struct Inner {
    /// Number, consumer, and when it asked.
    got: Vec<(u64, u64, Instant)>,
    /// How each message was settled, and when that was answered, for the first time.
    settled: BTreeMap<u64, (Settled, Instant)>,
    attempts: Vec<Attempt>,
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

    /// A consumer is about to ask for this.
    pub fn tries(&self, consumer: u64, wish: Wish, numbers: impl IntoIterator<Item = u64>) -> AttemptId {
        let numbers = numbers.into_iter().collect();
        let attempts = &mut self.inner().attempts;
        attempts.push(Attempt { consumer, numbers, wish, sent: Instant::now(), accepted: None, in_time: false });
        AttemptId(attempts.len() - 1)
    }

    /// An attempt was accepted at that time, while the messages were certainly out if `in_time`:
    /// what comes when the time of a message is up is ignored (contract/services 3.6).
    pub fn accepted(&self, attempt: AttemptId, at: Instant, in_time: bool) {
        let inner = &mut *self.inner();
        let attempt = &mut inner.attempts[attempt.0];
        (attempt.accepted, attempt.in_time) = (Some(at), in_time);
        if let (Wish::Settle(settled), true) = (attempt.wish, in_time) {
            for number in &attempt.numbers {
                inner.settled.entry(*number).or_insert((settled, at));
            }
        }
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
        let tried = inner.attempted(|attempt| attempt.wish != Wish::Retry);
        let is_left = |number: &&u64| **number < stored && !tried.contains(number) && !distinct.contains(number);
        faults
            .extend(got.iter().filter(is_left).map(|number| format!("{number} was not settled and never came again")));
        if distinct.len() != parked.len() {
            faults.push(format!("some messages are parked twice: {parked:?}"));
        }
        for (number, (settled, answered)) in &inner.settled {
            let is_missing = *settled == Settled::Parked && !distinct.contains(number);
            if is_missing && !inner.may_be_lost(*answered) && !inner.was_disturbed(*number, *answered, |_| true) {
                faults.push(format!("{number} was to be parked, and is not: {}", inner.history(*number, ended)));
            }
        }
        for (number, consumer, asked) in &inner.got {
            let Some((settled, answered)) = inner.settled_before(*number, *asked) else { continue };
            if !inner.may_be_lost(answered)
                && !inner.was_disturbed(*number, answered, |attempt| attempt.wish == Wish::Retry)
            {
                faults.push(format!(
                    "{number} was {settled:?} {:?} before the end, and consumer {consumer} got it again {:?} later: {}",
                    ended.duration_since(answered),
                    asked.duration_since(answered),
                    inner.history(*number, ended),
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
    /// Messages of some attempts.
    fn attempted(&self, of: impl Fn(&Attempt) -> bool) -> BTreeSet<u64> {
        self.attempts.iter().filter(|attempt| of(attempt)).flat_map(|attempt| &attempt.numbers).copied().collect()
    }

    /// Whether a consumer that may no longer have had a message asked for something before it was
    /// settled. The message may have left the hands of whoever had it then, so that its settling
    /// was ignored.
    fn was_disturbed(&self, number: u64, settled: Instant, of: impl Fn(&Attempt) -> bool) -> bool {
        let is_late = |attempt: &&Attempt| !attempt.in_time && attempt.sent < settled && of(attempt);
        self.attempts.iter().filter(is_late).any(|attempt| attempt.numbers.contains(&number))
    }

    /// What happened to a message, with seconds before the end.
    fn history(&self, number: u64, ended: Instant) -> String {
        let ago = |at: Instant| ended.saturating_duration_since(at).as_secs_f64();
        let got = self.got.iter().filter(|(of, ..)| *of == number);
        let got = got.map(|(_, consumer, asked)| (*asked, format!("to {consumer} at -{:.3}", ago(*asked))));
        let attempts = self.attempts.iter().filter(|attempt| attempt.numbers.contains(&number));
        let attempts = attempts.map(|Attempt { consumer, wish, sent, accepted, .. }| {
            let answer = accepted.map_or("no answer".to_owned(), |at| format!("accepted at -{:.3}", ago(at)));
            (*sent, format!("{wish:?} of {consumer} at -{:.3}, {answer}", ago(*sent)))
        });
        let mut all: Vec<(Instant, String)> = got.chain(attempts).collect();
        all.sort();
        all.into_iter().map(|(_, what)| what).collect::<Vec<_>>().join("; ")
    }

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
