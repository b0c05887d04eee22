//! Looking through all streams for what can be removed.

use headwater_proto::stored::StreamRecord;

use super::read::ReadView;
use super::{ReadError, StreamInfo, index_row, options, stream_row};
use crate::event::{EventNumber, Removable, StreamNameRef, Ticks};

/// A stream of which events can be removed, or ids forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its name.
    pub(crate) stream: String,
    /// Events that can be removed, about.
    pub(crate) events: u64,
    /// Bytes of their rows, about.
    pub(crate) bytes: u64,
}

/// What one step of a scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// In the order of their names.
    pub(crate) candidates: Vec<Candidate>,
    /// The last stream that was looked at; `None` when there are no more behind it.
    pub(crate) reached: Option<String>,
}

/// Rows of the index that are looked at to tell the size of the others.
const SAMPLE: u64 = 64;

impl ReadView<'_> {
    /// Looks at up to `most` streams behind `after`, in the order of their names.
    pub(crate) fn scan_removable(
        &self,
        after: Option<&str>,
        most: usize,
        now: Ticks,
        forget_removed_before: Ticks,
    ) -> Result<Scanned, ReadError> {
        let mut candidates: Vec<Candidate> = Vec::new();
        let reached = self.streams_behind(after, most, |name, record| {
            let forgets = record.removals.first().is_some_and(|mark| mark.time_ticks < forget_removed_before.0);
            let is_limited = record
                .metadata
                .as_ref()
                .is_some_and(|of| of.max_count.is_some() || of.max_age_s.is_some() || of.truncate_before.is_some());
            // The old documents of every metastream can go.
            if is_limited || record.tombstone_position.is_some() || StreamNameRef::new(name).is_metastream() {
                candidates.extend(self.candidate(name, now)?);
            }
            if forgets && candidates.last().is_none_or(|last| last.stream != name) {
                candidates.push(Candidate { stream: name.to_owned(), events: 0, bytes: 0 });
            }
            Ok(())
        })?;
        Ok(Scanned { candidates, reached })
    }

    /// Shows up to `most` streams behind `after` to `visit`, in the order of their names. Returns
    /// the last one; `None` when there are no more behind it.
    pub(super) fn streams_behind(
        &self,
        after: Option<&str>,
        most: usize,
        mut visit: impl FnMut(&str, StreamRecord) -> Result<(), ReadError>,
    ) -> Result<Option<String>, ReadError> {
        let mut rows = self.iterate_all(options::STREAM);
        match after {
            None => rows.seek_to_first(),
            Some(after) => {
                rows.seek(stream_row::key(after));
                if rows.key() == Some(stream_row::key(after)) {
                    rows.next();
                }
            }
        }
        let mut examined = 0;
        while let Some((key, value)) = rows.item() {
            let Ok(name) = std::str::from_utf8(key) else {
                return Err(ReadError::Damaged("family stream: a name that is no text".into()));
            };
            visit(name, stream_row::decode(name, value)?)?;
            examined += 1;
            if examined == most {
                return Ok(Some(name.to_owned()));
            }
            rows.next();
        }
        rows.status().map_err(ReadError::from_rocksdb)?;
        Ok(None)
    }

    /// Up to `most` names of streams that begin with `prefix`, of those behind `after`, in their
    /// order. The streams may have no events, or be deleted.
    pub(crate) fn stream_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<String>, ReadError> {
        let mut rows = self.iterate_all(options::STREAM);
        let from = after.unwrap_or(prefix);
        rows.seek(stream_row::key(from));
        let mut names = Vec::new();
        while let Some(key) = rows.key()
            && names.len() < most
        {
            let Ok(name) = std::str::from_utf8(key) else {
                return Err(ReadError::Damaged("family stream: a name that is no text".into()));
            };
            if !name.starts_with(prefix) {
                break;
            }
            if Some(name) != after {
                names.push(name.to_owned());
            }
            rows.next();
        }
        rows.status().map_err(ReadError::from_rocksdb)?;
        Ok(names)
    }

    fn candidate(&self, stream: &str, now: Ticks) -> Result<Option<Candidate>, ReadError> {
        let info = self.stream(stream)?;
        let (Some(id), Some(last)) = (info.id, info.last_number) else { return Ok(None) };
        let removable = Removable::of(StreamNameRef::new(stream), info.tombstoned, last, &info.metadata, now);
        let end = self.end_of_removable(&info, id, last, removable)?;
        let events = end.saturating_sub(info.removed_before);
        if events == 0 {
            return Ok(None);
        }
        let (mut sampled, mut bytes) = (0, 0);
        for place in self.places(id, info.removed_before..=(info.removed_before + SAMPLE.min(events) - 1))? {
            sampled += 1;
            bytes += u64::from(place.bytes);
        }
        let bytes = bytes.checked_div(sampled).unwrap_or(0) * events;
        Ok(Some(Candidate { stream: stream.to_owned(), events, bytes }))
    }

    /// The number behind the last event that can be removed.
    fn end_of_removable(
        &self,
        info: &StreamInfo,
        id: u64,
        last: EventNumber,
        removable: Removable,
    ) -> Result<EventNumber, ReadError> {
        let below = removable.below.min(last + 1).max(info.removed_before);
        if removable.oldest.is_none() {
            return Ok(below);
        }
        // Times never go back along a stream, so the first event that stays is found by halving.
        let (mut low, mut high) = (below, last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            // A number without an event counts as the next one that has one.
            let time = self.time_from(id, middle)?;
            match time {
                Some((_, time)) if !removable.includes(middle, time) => high = middle,
                Some((number, _)) => low = number + 1,
                None => high = middle,
            }
        }
        Ok(low.min(last + 1))
    }

    /// Number and time of the first stored event from this number on.
    fn time_from(&self, id: u64, number: EventNumber) -> Result<Option<(EventNumber, Ticks)>, ReadError> {
        let mut rows = self.iterate(options::INDEX, &index_row::key(id, number), &index_row::end_key(id));
        rows.seek_to_first();
        let Some((key, value)) = rows.item() else {
            rows.status().map_err(ReadError::from_rocksdb)?;
            return Ok(None);
        };
        let (place, heading) = index_row::place_and_heading(key, value)?;
        let time = match heading {
            Some(heading) => Some(heading.time),
            None => self.event_at(place)?.map(|event| event.time),
        };
        Ok(time.map(|time| (place.number, time)))
    }
}
