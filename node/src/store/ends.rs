//! Looking through all streams for those whose last event is gone, while its number stays used.

use super::ReadError;
use super::read::ReadView;
use crate::event::{EventNumber, StreamNameRef};
use headwater_proto::stored::StreamRecord;

/// What one step of the search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EmptiedStreams {
    /// Streams and the numbers of their next events, in the order of the names.
    pub(crate) found: Vec<(String, EventNumber)>,
    /// The last stream that was looked at; `None` when there are no more behind it.
    pub(crate) reached: Option<String>,
}

impl ReadView<'_> {
    /// Looks at up to `most` streams behind `after`, in the order of their names. Deleted streams
    /// are left out: they never go on.
    pub(crate) fn emptied_streams(&self, after: Option<&str>, most: usize) -> Result<EmptiedStreams, ReadError> {
        let mut found = Vec::new();
        let reached = self.streams_behind(after, most, |name, record| {
            found.extend(self.next_of_emptied(name, &record)?.map(|next| (name.to_owned(), next)));
            Ok(())
        })?;
        Ok(EmptiedStreams { found, reached })
    }

    /// The number of the next event of this stream, if its last one is gone.
    pub(crate) fn next_of_emptied_stream(&self, name: &str) -> Result<Option<EventNumber>, ReadError> {
        let Some(record) = self.record(name)? else { return Ok(None) };
        self.next_of_emptied(name, &record)
    }

    fn next_of_emptied(&self, name: &str, record: &StreamRecord) -> Result<Option<EventNumber>, ReadError> {
        let may_be_emptied = record.removed_before > 0 || record.last_number.is_some();
        // The newest event of a metastream stays for as long as the stream does.
        if !may_be_emptied || record.tombstone_position.is_some() || StreamNameRef::new(name).is_metastream() {
            return Ok(None);
        }
        let in_index = self.last_index_number(record.id)?;
        let Some(last) = in_index.max(record.last_number) else { return Ok(None) };
        // Rows of removed events stay in the index for a time.
        let stored = in_index.filter(|number| *number >= record.removed_before);
        Ok((stored != Some(last)).then_some(last + 1))
    }
}
