//! Links in an EventStore. Its log shows what they lead to in their place, and says little about
//! one that leads nowhere: not even which stream it is in. So links are read from their own
//! streams, where the server shows them as they are stored; the numbers that are missing there tell
//! which ones the log has not shown.

use std::collections::HashMap;

use super::entries::Entries;
use super::error::TransferError;
use super::pages::{Entry, Page, encode};
use super::source::Batch;
use crate::event::{EventNumber, LINK_EVENT_TYPE};

/// Events of a page of a stream with links.
const PAGE_EVENTS: u64 = 256;

/// Entries that were read with others and are kept until the log comes to them.
const KEPT_ENTRIES: usize = 16 * 1024;

/// The streams with links, and what was read of them.
#[derive(Default)]
pub(super) struct Links {
    /// The next number of each stream in which a link was seen.
    next: HashMap<String, EventNumber>,
    /// By stream and number.
    read: HashMap<(String, EventNumber), Entry>,
    /// Links of the log that lead nowhere and were not found in a stream yet.
    missing: u64,
    /// One such was seen since the ends of the streams were looked at.
    has_new: bool,
}

impl Links {
    /// A link of the log that leads nowhere.
    pub(super) fn unresolved(&mut self, entry: &Entry) {
        tracing::debug!(title = %entry.title, "a link of the log leads nowhere");
        self.missing += 1;
        self.has_new = true;
    }

    /// Whether links were seen in the stream.
    pub(super) fn knows(&self, stream: &str) -> bool {
        self.next.contains_key(stream)
    }

    /// Adds the event in whose place the log shows this entry, and before it what the log has not
    /// shown of its stream.
    pub(super) async fn take(
        &mut self,
        entry: Entry,
        entries: &Entries,
        path: &str,
        batch: &mut Batch,
    ) -> Result<(), TransferError> {
        let (stream, number) = (entry.position_stream_id.clone(), entry.position_event_number);
        let expected = self.next.get(&stream).copied().unwrap_or_default();
        if number > expected && number != crate::event::MAX_NUMBER {
            let Before { links, too_late } = links_before(entries, &stream, expected, number).await?;
            self.missing = self.missing.saturating_sub((links.len() + too_late.len()) as u64);
            batch.remarks.extend(too_late.into_iter().map(|number| {
                format!(
                    "the link {number}@{stream} leads to an event that is gone, and the log has shown a later event of its \
                     stream first: it is left out, unless an earlier run has copied it"
                )
            }));
            entries.events(links.into_iter().map(Err).collect(), path, batch).await?;
        }
        self.next.insert(stream.clone(), number.saturating_add(1).max(expected));
        if !entry.is_of_link() {
            return entries.events(vec![Err(entry)], path, batch).await;
        }
        match self.stored(entries, &stream, number).await? {
            Some(link) => entries.events(vec![Err(link)], path, batch).await,
            None => {
                batch
                    .remarks
                    .push(format!("the link {number}@{stream} can no longer be read by itself: its id is not known"));
                let mut event = super::entries::without_payload(&entry);
                event.event_type = LINK_EVENT_TYPE.to_owned();
                event.data = format!("{}@{}", entry.event_number, entry.stream_id).into();
                event.metadata = entry.link_meta_data.unwrap_or_default().into();
                batch.events.push(event);
                Ok(())
            }
        }
    }

    /// At the end of the log: adds what is behind the last link that it has shown of each stream.
    pub(super) async fn tails(&mut self, entries: &Entries, batch: &mut Batch) -> Result<(), TransferError> {
        if !std::mem::take(&mut self.has_new) || !entries.follows_links() {
            return Ok(());
        }
        let streams: Vec<(String, EventNumber)> =
            self.next.iter().map(|(stream, next)| (stream.clone(), *next)).collect();
        for (stream, next) in streams {
            let path = format!("/streams/{}/{next}/forward/{PAGE_EVENTS}", encode(&stream));
            let Some(page) = entries.page_if_any(&path).await? else { continue };
            let found: Vec<_> = page.entries.into_iter().rev().filter(|entry| entry.event_id.is_some()).collect();
            let Some(last) = found.last().map(Entry::number) else { continue };
            self.next.insert(stream, last + 1);
            self.missing = self.missing.saturating_sub(found.len() as u64);
            entries.events(found.into_iter().map(Err).collect(), &path, batch).await?;
        }
        if self.missing > 0 {
            batch.remarks.push(format!(
                "{} links lead to events that are gone, and stand before other events of their streams, or in streams of \
                 which the server shows no other link: they are left out",
                self.missing
            ));
        }
        Ok(())
    }

    /// The stored link; `None` when no reader can see it any more.
    async fn stored(
        &mut self,
        entries: &Entries,
        stream: &str,
        number: EventNumber,
    ) -> Result<Option<Entry>, TransferError> {
        let key = (stream.to_owned(), number);
        if let Some(entry) = self.read.remove(&key) {
            return Ok(Some(entry));
        }
        let path = format!("/streams/{}/{number}/forward/{PAGE_EVENTS}", encode(stream));
        let Some(page) = entries.page_if_any(&path).await? else { return Ok(None) };
        if self.read.len() + page.entries.len() > KEPT_ENTRIES {
            self.read.clear();
        }
        let stored = |entry: &Entry| entry.event_id.is_some() && !entry.is_of_link();
        let read = page.entries.into_iter().filter(stored);
        self.read.extend(read.map(|entry| ((stream.to_owned(), entry.number()), entry)));
        Ok(self.read.remove(&key))
    }
}

/// Links of a stream before the one that the log shows.
#[derive(Default)]
struct Before {
    /// Those directly before it, oldest first.
    links: Vec<Entry>,
    /// Those before the last event that is no link, newest first. The log has shown that event, so
    /// it was copied, and a stream takes no event before its last one.
    too_late: Vec<EventNumber>,
}

/// The links of a stream with these numbers, as far as readers can see them. From the newest down,
/// because the oldest ones may be gone. Of those that come too late only the nearest ones are
/// found.
async fn links_before(
    entries: &Entries,
    stream: &str,
    first: EventNumber,
    end: EventNumber,
) -> Result<Before, TransferError> {
    let mut before = Before::default();
    let mut end = end;
    let mut is_too_late = false;
    while end > first && !is_too_late {
        let count = (end - first).min(PAGE_EVENTS);
        let path = format!("/streams/{}/{}/backward/{count}", encode(stream), end - 1);
        let Some(Page { entries: page, .. }) = entries.page_if_any(&path).await? else { break };
        let is_wanted = |entry: &Entry| entry.event_id.is_some() && (first..end).contains(&entry.number());
        let page: Vec<Entry> = page.into_iter().filter(is_wanted).collect();
        let Some(oldest) = page.last().map(Entry::number) else { break };
        for entry in page {
            let is_link = entry.event_type == LINK_EVENT_TYPE;
            is_too_late |= !is_link;
            match is_too_late {
                false => before.links.push(entry),
                true if is_link => before.too_late.push(entry.number()),
                true => {}
            }
        }
        end = oldest;
    }
    before.links.reverse();
    Ok(before)
}
