//! The memory of the writer between chunks.

use std::sync::Arc;

use super::ReadError;
use super::generation::Generation;
use super::head::HeadCache;
use super::id_filter::IdFilter;
use super::recent_ids::RecentIds;
use super::system_row::Counters;

/// See the module. It never holds anything of an uncommitted chunk.
pub(super) struct WriterMemory {
    pub(super) counters: Counters,
    pub(super) heads: HeadCache,
    pub(super) recent_ids: RecentIds,
    pub(super) id_filter: IdFilter,
}

impl WriterMemory {
    /// For a database that was just opened.
    pub(super) fn new(generation: &Arc<Generation>) -> Result<Self, ReadError> {
        let counters = generation.counters()?;
        let recent_ids = RecentIds::open(generation, &counters)?;
        let id_filter = IdFilter::open(generation, &counters);
        Ok(Self { counters, heads: HeadCache::new(), recent_ids, id_filter })
    }
}
