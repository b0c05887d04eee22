//! Where the bytes of the log lie, by samples: enough to purge by bytes without reading the log.

use std::collections::VecDeque;

use super::{Log, LogError, Record};

/// Entries read at the start to estimate how the bytes of the log are spread.
const ESTIMATE_SAMPLES: u64 = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Volume {
    total: u64,
    /// (index, bytes of log up to and including it), ascending.
    samples: VecDeque<(u64, u64)>,
}

impl Volume {
    /// Samples kept: two MiB of memory. With one per [`Self::STEP_BYTES`] they reach 8 GiB back.
    /// Older ones are dropped, which only makes purging less precise beyond that.
    const MAX_SAMPLES: usize = 1 << 17;
    /// Bytes between two samples: small compared with the smallest log that an operator would
    /// configure to keep.
    const STEP_BYTES: u64 = 64 << 10;

    /// Bytes counted so far.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Counts `bytes` of log ending at `index`.
    pub(crate) fn add(&mut self, index: u64, bytes: u64) {
        self.total += bytes;
        let step_reached = self.samples.back().is_none_or(|(_, at)| self.total - at >= Self::STEP_BYTES);
        if !step_reached {
            return;
        }
        if self.samples.len() == Self::MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((index, self.total));
    }

    /// Puts what a former process applied before everything counted so far, as estimated by
    /// [`estimate`].
    pub(crate) fn prepend(&mut self, earlier: &[(u64, u64)]) {
        let Some((_, offset)) = earlier.last().copied() else { return };
        self.total += offset;
        for (_, bytes) in &mut self.samples {
            *bytes += offset;
        }
        for sample in earlier.iter().rev() {
            if self.samples.len() < Self::MAX_SAMPLES {
                self.samples.push_front(*sample);
            }
        }
    }

    /// The bytes counted up to `index`, rounded down to a sample; 0 when it lies before all
    /// samples.
    pub(crate) fn bytes_at(&self, index: u64) -> u64 {
        let after = self.samples.partition_point(|(at, _)| *at <= index);
        after.checked_sub(1).map_or(0, |last| self.samples[last].1)
    }

    /// The highest index known to have at least `keep_bytes` of log between it and `below`; `None`
    /// when less than that is known.
    pub(crate) fn index_below(&self, below: u64, keep_bytes: u64) -> Option<u64> {
        let limit = self.bytes_at(below).checked_sub(keep_bytes)?;
        let after = self.samples.partition_point(|(index, bytes)| *bytes <= limit && *index <= below);
        after.checked_sub(1).map(|last| self.samples[last].0)
    }
}

/// How the bytes of the log before `end` are spread, as ascending pairs (index, bytes of log up to
/// it), counted from the beginning of the log and estimated from some of its entries. Blocking.
pub(crate) fn estimate<R: Record>(log: &Log<R>, end: u64) -> Result<Vec<(u64, u64)>, LogError> {
    let extent = log.extent();
    let end = end.min(extent.end);
    let step = (end.saturating_sub(extent.first) / ESTIMATE_SAMPLES).max(1);
    let mut samples = Vec::new();
    let mut bytes = 0_u64;
    let mut index = extent.first;
    while index < end {
        let next = index.saturating_add(step).min(end);
        let weight = log.read_bounded(index..index + 1, 1)?.first().map_or(0, Record::weight) as u64;
        bytes = bytes.saturating_add(weight.saturating_mul(next - index));
        samples.push((next - 1, bytes));
        index = next;
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = Volume::STEP_BYTES;

    fn volume(entries: std::ops::RangeInclusive<u64>) -> Volume {
        let mut volume = Volume::default();
        entries.for_each(|index| volume.add(index, STEP));
        volume
    }

    #[test]
    fn purging_leaves_the_bytes_to_keep_below_the_snapshot() {
        let volume = volume(1..=10);
        assert_eq!(volume.index_below(10, 3 * STEP), Some(7));
        assert_eq!(volume.index_below(8, 3 * STEP), Some(5));
        assert_eq!(volume.index_below(10, 0), Some(10));
        assert_eq!(volume.index_below(3, 3 * STEP), None);
        assert_eq!(volume.index_below(3, u64::MAX), None);
    }

    #[test]
    fn entries_applied_by_an_earlier_process_count_too() {
        let mut volume = volume(101..=103);
        volume.prepend(&[(50, 5 * STEP), (100, 10 * STEP)]);
        assert_eq!(volume.total(), 13 * STEP);
        assert_eq!(volume.index_below(103, 3 * STEP), Some(100));
        assert_eq!(volume.index_below(103, 8 * STEP), Some(50));
    }

    #[test]
    fn samples_are_bounded() {
        let volume = volume(1..=Volume::MAX_SAMPLES as u64 + 50);
        assert_eq!(volume.samples.len(), Volume::MAX_SAMPLES);
        assert_eq!(volume.index_below(40, 0), None);
    }
}
