//! What is around a group in the model test: its stream, its parked messages, and its owner, who
//! reads for it.

use std::collections::BTreeMap;

use super::*;

/// A stream: its messages, and the number behind the last one.
#[derive(Debug, Clone, Default)]
pub(super) struct Stream {
    messages: BTreeMap<u64, Message>,
    pub(super) end: u64,
}

impl Stream {
    pub(super) fn append(&mut self, message: Message) {
        self.end = message.key.number() + 1;
        self.messages.insert(message.key.number(), message);
    }

    /// A number that has no message.
    pub(super) fn skip(&mut self) {
        self.end += 1;
    }

    pub(super) fn truncate(&mut self, below: u64) {
        self.messages.retain(|number, _| *number >= below);
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.messages.contains_key(&number)
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.messages.values().map(|message| message.key).collect()
    }

    fn range(&self, range: impl std::ops::RangeBounds<u64>) -> impl Iterator<Item = Message> {
        self.messages.range(range).map(|(_, message)| message.clone())
    }

    /// The next messages from a number on, and how far they go.
    fn page(&self, from: u64, end: u64, count: usize) -> (Vec<Message>, u64) {
        let messages: Vec<_> = self.range(from..end.max(from)).take(count).collect();
        let is_last = self.range(from..end.max(from)).nth(count).is_none();
        let next = messages.last().map_or(end, |last| if is_last { end } else { last.key.number() + 1 });
        (messages, next)
    }
}

/// Both streams of a group.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) source: Stream,
    pub(super) parked: Stream,
}

impl World {
    pub(super) fn stream(&self, which: Which) -> &Stream {
        match which {
            Which::Source => &self.source,
            Which::Parked => &self.parked,
        }
    }

    pub(super) fn message(&self, key: Key) -> Option<&Message> {
        self.stream(key.which()).messages.get(&key.number())
    }

    /// Reads one page of what the group wants, at most so many messages or numbers. False if it
    /// wants nothing, or there is nothing.
    pub(super) fn read(&self, group: &mut Group, most: usize) -> bool {
        let wanted = group.wanted();
        if let Some((which, range)) = wanted.reread {
            let last = (*range.start() + most as u64 - 1).min(*range.end());
            let range = *range.start()..=last;
            group.reread(which, range.clone(), self.stream(which).range(range).collect());
            return true;
        }
        if wanted.parked_room > 0 {
            let (messages, next) =
                self.parked.page(wanted.parked_from, wanted.parked_end, most.min(wanted.parked_room));
            group.read_parked(messages);
            group.passed_parked(next);
            return true;
        }
        if wanted.source_room > 0 && wanted.source_from < self.source.end {
            let (messages, next) = self.source.page(wanted.source_from, self.source.end, most.min(wanted.source_room));
            group.read(messages);
            group.passed(next);
            return true;
        }
        false
    }
}
