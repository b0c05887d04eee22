//! Where the time of a request goes: the rooms that it passes note what it waits for.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

tokio::task_local! {
    static SPENT: RefCell<Spent>;
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

/// Does the work of a request, and collects what the rooms note meanwhile.
pub(crate) async fn collect<F: Future + Unpin>(work: F) -> (F::Output, Spent) {
    let mut work = pin!(SPENT.scope(RefCell::default(), work));
    let output = work.as_mut().await;
    (output, work.take_value().map(RefCell::into_inner).unwrap_or_default())
}

/// Notes the time from now until the returned value is dropped. Outside a request nobody hears of
/// it.
#[must_use = "the phase ends when this is dropped"]
pub(crate) fn phase(phase: Phase) -> Running {
    Running { phase, since: Instant::now() }
}

/// A phase that goes on.
#[derive(Debug)]
pub(crate) struct Running {
    phase: Phase,
    since: Instant,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = SPENT.try_with(|spent| spent.borrow_mut().add(self.phase, self.since.elapsed()));
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
        let (output, spent) = collect(request).await;
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
