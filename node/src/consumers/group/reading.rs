//! How far a group has read one of its two streams, and what it may read now.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use super::super::settings::MAX_BUFFERED_MESSAGES;
use super::progress::{Run, Way};

/// How far one stream was read. It knows the numbers of the messages only.
pub(super) struct Reading {
    /// All messages below this were read, or are not there.
    read: u64,
    /// Nothing from here on was handed out.
    handed: u64,
    /// Messages that were read and never handed out. A strategy may pass over some, so some can
    /// lie below `handed`.
    untouched: BTreeSet<u64>,
    /// What the stored progress calls open and was not read again yet, ascending.
    unread: VecDeque<Run>,
    /// Messages that the group holds, wherever they are.
    held: usize,
    /// Those of them that wait to be handed out.
    waiting: usize,
}

impl Reading {
    /// Goes on from a stored progress.
    pub(super) fn new(way: Way) -> Self {
        let Way { next, open } = way;
        Self { read: next, handed: next, untouched: BTreeSet::new(), unread: open.into(), held: 0, waiting: 0 }
    }

    /// The number to read on from.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// No message from here on was handed out.
    pub(super) fn next(&self) -> u64 {
        self.untouched.range(self.handed..).next().map_or(self.read, |first| *first)
    }

    /// What is open and was not read again yet.
    pub(super) fn unread(&self) -> impl Iterator<Item = &Run> {
        self.unread.iter()
    }

    /// Messages that wait and were never handed out.
    pub(super) fn untouched(&self) -> usize {
        self.untouched.len()
    }

    /// Messages that wait because they were handed out before.
    pub(super) fn retrying(&self) -> usize {
        self.waiting.saturating_sub(self.untouched.len())
    }

    /// Whether neither a message is held nor one has to be read again.
    pub(super) fn is_settled(&self) -> bool {
        self.held == 0 && self.unread.is_empty()
    }

    /// How many new messages there is room for. New ones come after all that were open before, so
    /// that numbers ascend.
    pub(super) fn room(&self, buffered: usize) -> usize {
        if !self.unread.is_empty() {
            return 0;
        }
        buffered.saturating_sub(self.untouched.len()).min(self.capacity())
    }

    /// The next open messages to read again: not more numbers than messages may be held. Some in
    /// between may be settled. The buffer may be full, because consumers can settle what is open
    /// only when its ids are known.
    pub(super) fn wanted_again(&self) -> Option<RangeInclusive<u64>> {
        let first = self.unread.front()?.first;
        let limit = first.saturating_add((self.capacity() as u64).checked_sub(1)?);
        let within = self.unread.iter().take_while(|run| run.first <= limit);
        within.last().map(|run| first..=run.last.min(limit))
    }

    /// How many more messages may be held.
    fn capacity(&self) -> usize {
        (MAX_BUFFERED_MESSAGES as usize).saturating_sub(self.held)
    }

    /// Takes what is open in a range out of what has to be read again. A range that leaves out the
    /// first one takes nothing.
    pub(super) fn take_unread(&mut self, range: &RangeInclusive<u64>) -> Vec<Run> {
        let (start, end) = (*range.start(), *range.end());
        let mut taken = Vec::new();
        while let Some(run) = self.unread.front_mut() {
            if run.first < start || run.first > end {
                break;
            }
            if run.last > end {
                taken.push(Run { last: end, ..*run });
                run.first = end + 1;
                break;
            }
            taken.extend(self.unread.pop_front());
        }
        taken
    }

    /// All below this number was read.
    pub(super) fn passed(&mut self, next: u64) {
        self.read = self.read.max(next);
    }

    /// A message is new: it was never handed out.
    pub(super) fn is_new(&mut self, number: u64) {
        self.passed(number.saturating_add(1));
        self.untouched.insert(number);
    }

    /// The group holds one more message.
    pub(super) fn holds(&mut self) {
        self.held += 1;
    }

    /// A message waits to be handed out.
    pub(super) fn waits(&mut self) {
        self.waiting += 1;
    }

    /// Whether a message waits that was never handed out.
    pub(super) fn is_untouched(&self, number: u64) -> bool {
        self.untouched.contains(&number)
    }

    /// A message that waited was handed out.
    pub(super) fn handed_out(&mut self, number: u64) {
        self.waiting -= 1;
        self.untouched.remove(&number);
        self.handed = self.handed.max(number.saturating_add(1));
    }

    /// A message that was out, or is parked, is settled.
    pub(super) fn settled(&mut self) {
        self.held -= 1;
    }

    /// Messages that are held, and those of them that wait.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.held, self.waiting)
    }
}
