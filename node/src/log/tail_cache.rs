//! The newest records, decoded, in memory. Replication and apply find recent appends here, and
//! neither read them from the database nor decode them again. It was never measured alone: the log
//! has had it from the first version on.

use std::collections::VecDeque;
use std::ops::Range;

use super::Record;

/// An unbroken run of records up to the end of the log, bounded by weight.
///
/// It may begin anywhere, and may be empty when the log is not: after a restart, a truncation, or
/// before the first append.
pub(super) struct TailCache<R> {
    /// Records in order of their index.
    records: VecDeque<R>,
    /// Index of the first of them; of the next record while there is none.
    start: u64,
    /// Sum of the records' weights.
    weight: usize,
    /// Limit of `weight`; a single heavier record is kept nevertheless.
    limit: usize,
}

impl<R: Record> TailCache<R> {
    /// An empty cache of a log that ends before `end`.
    pub(super) fn new(end: u64, limit: usize) -> Self {
        Self { records: VecDeque::new(), start: end, weight: 0, limit }
    }

    fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    /// Adds the record after the last one, and drops the oldest ones beyond the limit.
    pub(super) fn push(&mut self, record: R) {
        debug_assert_eq!(record.index(), self.end(), "the cache is an unbroken run");
        self.weight += record.weight();
        self.records.push_back(record);
        while self.weight > self.limit && self.records.len() > 1 {
            self.drop_oldest();
        }
    }

    /// The records in `range` (which must lie within the log) until their weights reach
    /// `max_bytes`, at least one; `None` when the first of them is not cached.
    pub(super) fn read(&self, range: Range<u64>, max_bytes: usize) -> Option<Vec<R>> {
        if range.is_empty() {
            return Some(Vec::new());
        }
        if range.start < self.start || range.end > self.end() {
            return None;
        }
        let from = (range.start - self.start) as usize;
        let to = (range.end - self.start) as usize;
        let mut weight = 0;
        let fits = |record: &&R| {
            let first = weight == 0;
            weight += record.weight();
            first || weight <= max_bytes
        };
        Some(self.records.range(from..to).take_while(fits).cloned().collect())
    }

    /// Drops the records from `index` on; the log now ends there.
    pub(super) fn truncate_from(&mut self, index: u64) {
        if index <= self.start {
            *self = Self::new(index, self.limit);
            return;
        }
        while self.end() > index {
            if let Some(record) = self.records.pop_back() {
                self.weight -= record.weight();
            }
        }
    }

    /// Drops the records before `end`.
    pub(super) fn purge_before(&mut self, end: u64) {
        while self.start < end && !self.records.is_empty() {
            self.drop_oldest();
        }
        // A log that was purged beyond its end continues there.
        self.start = self.start.max(end);
    }

    fn drop_oldest(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.weight -= record.weight();
            self.start += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_record::TestRecord;
    use super::*;

    fn filled(range: Range<u64>, limit: usize) -> TailCache<TestRecord> {
        let mut cache = TailCache::new(range.start, limit);
        range.for_each(|index| cache.push(TestRecord::new(index)));
        cache
    }

    fn indexes(cache: &TailCache<TestRecord>, range: Range<u64>) -> Option<Vec<u64>> {
        cache.read(range, usize::MAX).map(|records| records.iter().map(Record::index).collect())
    }

    #[test]
    fn reads_below_and_across_the_beginning_are_left_to_the_disk() {
        let cache = filled(5..10, usize::MAX);
        assert_eq!(indexes(&cache, 0..5), None);
        assert_eq!(indexes(&cache, 4..7), None);
        assert_eq!(indexes(&cache, 5..7), Some(vec![5, 6]));
        assert_eq!(indexes(&cache, 9..10), Some(vec![9]));
        assert_eq!(indexes(&cache, 7..7), Some(vec![]));
    }

    #[test]
    fn an_empty_cache_of_a_full_log_answers_nothing() {
        let cache = filled(10..10, usize::MAX);
        assert_eq!(indexes(&cache, 0..10), None);
        assert_eq!(indexes(&cache, 9..10), None);
    }

    #[test]
    fn the_weight_is_bounded_and_one_record_always_stays() {
        let weight = TestRecord::new(0).weight();
        let cache = filled(0..10, 3 * weight);
        assert_eq!(indexes(&cache, 7..10), Some(vec![7, 8, 9]));
        assert_eq!(indexes(&cache, 6..10), None);
        assert_eq!(indexes(&filled(0..10, 0), 9..10), Some(vec![9]));
    }

    #[test]
    fn reads_stop_at_the_byte_limit_but_give_one_record() {
        let cache = filled(0..10, usize::MAX);
        let weight = TestRecord::new(0).weight();
        assert_eq!(cache.read(0..10, 3 * weight).unwrap().len(), 3);
        assert_eq!(cache.read(0..10, 0).unwrap().len(), 1);
    }

    #[test]
    fn truncation_inside_at_and_below_the_cache() {
        for (truncated, left) in [(8, Some(vec![5, 6, 7])), (5, None), (3, None)] {
            let mut cache = filled(5..10, usize::MAX);
            cache.truncate_from(truncated);
            assert_eq!(indexes(&cache, 5..truncated.max(5)).filter(|found| !found.is_empty()), left);
            cache.push(TestRecord::new(truncated));
            assert_eq!(indexes(&cache, truncated..truncated + 1), Some(vec![truncated]));
        }
    }

    #[test]
    fn purging_inside_and_beyond_the_cache() {
        let mut cache = filled(5..10, usize::MAX);
        cache.purge_before(3);
        cache.purge_before(7);
        assert_eq!(indexes(&cache, 7..10), Some(vec![7, 8, 9]));
        cache.purge_before(20);
        cache.push(TestRecord::new(20));
        assert_eq!(indexes(&cache, 20..21), Some(vec![20]));
        assert_eq!(cache.weight, TestRecord::new(20).weight());
    }
}
