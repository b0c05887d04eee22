//! Where the time of a request goes: the rooms that it passes note what it waits for. The sums are
//! for the log of slow requests; where the request is traced, each wait is a span as well.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use crate::trace::{Kind, Span, Tracked};

tokio::task_local! {
    static NOTED: RefCell<Noted>;
}

/// What is noted of one request.
#[derive(Debug, Default)]
struct Noted {
    spent: Spent,
    /// The span of what goes on at this moment, if the request is traced.
    current: Option<Tracked>,
}

/// What a request may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its password is compared.
    Login,
    /// Its body arrives.
    Body,
    /// This node comes as far as the request demands.
    Barrier,
    /// Its write is replicated, synced and applied, or another node does that.
    Commit,
    /// The state is read.
    Read,
    /// Something new happens: the client has asked to wait for it.
    News,
    /// There is room for the answer, and it is compressed.
    Answer,
}

const PHASES: [Phase; 7] =
    [Phase::Login, Phase::Body, Phase::Barrier, Phase::Commit, Phase::Read, Phase::News, Phase::Answer];

impl Phase {
    /// Its name in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Body => "body",
            Self::Barrier => "barrier",
            Self::Commit => "commit",
            Self::Read => "read",
            Self::News => "news",
            Self::Answer => "answer",
        }
    }
}

/// The time that one request has spent in each phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent([Duration; PHASES.len()]);

impl Spent {
    /// Adds time to a phase.
    pub(crate) fn add(&mut self, phase: Phase, time: Duration) {
        self.0[phase as usize] += time;
    }

    /// Adds what another part of the same request has spent.
    pub(crate) fn merge(&mut self, other: &Self) {
        PHASES.into_iter().for_each(|phase| self.add(phase, other.in_phase(phase)));
    }

    /// The time in one phase.
    pub(crate) fn in_phase(&self, phase: Phase) -> Duration {
        self.0[phase as usize]
    }

    /// The phases that took any time, the longest first.
    pub(crate) fn longest_first(&self) -> Vec<(Phase, Duration)> {
        let mut phases: Vec<_> = PHASES.into_iter().map(|phase| (phase, self.in_phase(phase))).collect();
        phases.retain(|(_, time)| !time.is_zero());
        phases.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        phases
    }
}

/// Does the work of a request, below its span if it has one, and collects what the rooms note
/// meanwhile.
pub(crate) async fn collect<F: Future + Unpin>(span: Option<&Span>, work: F) -> (F::Output, Spent) {
    let noted = Noted { current: span.map(Span::tracked), ..Noted::default() };
    let mut work = pin!(NOTED.scope(RefCell::new(noted), work));
    let output = work.as_mut().await;
    (output, work.take_value().map(|noted| noted.into_inner().spent).unwrap_or_default())
}

/// Notes the time from then until now, of a request whose work is not collected yet or any more.
pub(crate) fn note(spent: &mut Spent, span: Option<&Span>, phase: Phase, since: Instant) {
    spent.add(phase, since.elapsed());
    if let Some(span) = span {
        span.tracked().record(phase.name(), since);
    }
}

/// Notes the time from now until the returned value is dropped. Outside a request nobody hears of
/// it.
#[must_use = "the phase ends when this is dropped"]
pub(crate) fn phase(phase: Phase) -> Running {
    let traced = NOTED.try_with(|noted| {
        let mut noted = noted.borrow_mut();
        let around = noted.current.take()?;
        let span = around.child(phase.name(), Kind::Internal);
        noted.current = Some(span.tracked());
        Some(Box::new(Traced { around, _span: span }))
    });
    Running { phase, since: Instant::now(), traced: traced.ok().flatten() }
}

/// The span of what the request does at this moment, if it is traced.
pub(crate) fn current_span() -> Option<Tracked> {
    NOTED.try_with(|noted| noted.borrow().current.clone()).ok().flatten()
}

/// A phase that goes on.
#[derive(Debug)]
pub(crate) struct Running {
    phase: Phase,
    since: Instant,
    traced: Option<Box<Traced>>,
}

/// A phase of a traced request.
#[derive(Debug)]
struct Traced {
    /// The span to which the request returns.
    around: Tracked,
    /// Ends with the phase.
    _span: Span,
}

impl Drop for Running {
    fn drop(&mut self) {
        let traced = self.traced.take();
        let _ = NOTED.try_with(|noted| {
            let mut noted = noted.borrow_mut();
            noted.spent.add(self.phase, self.since.elapsed());
            if let Some(traced) = traced {
                noted.current = Some(traced.around.clone());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_of_a_request_add_up_and_belong_to_it_alone() {
        let request = Box::pin(async {
            for _ in 0..2 {
                let _commit = phase(Phase::Commit);
                tokio::task::yield_now().await;
            }
            drop(phase(Phase::Read));
            7
        });
        drop(phase(Phase::Body));
        let (output, spent) = collect(None, request).await;
        assert_eq!(output, 7);
        assert!(!spent.in_phase(Phase::Commit).is_zero());
        assert_eq!(spent.in_phase(Phase::Body), Duration::ZERO);
    }

    #[test]
    fn the_longest_phase_comes_first() {
        let mut spent = Spent::default();
        spent.add(Phase::Read, Duration::from_millis(2));
        spent.add(Phase::Commit, Duration::from_millis(3));
        spent.add(Phase::Read, Duration::from_millis(2));
        let phases: Vec<_> =
            spent.longest_first().into_iter().map(|(phase, time)| (phase.name(), time.as_millis())).collect();
        assert_eq!(phases, [("read", 4), ("commit", 3)]);
    }
}
