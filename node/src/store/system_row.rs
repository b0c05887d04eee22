//! Family `system`: one row for each fact about the whole database.
//!
//! | key | value |
//! |---|---|
//! | `format` | version of all encodings, u32 big-endian, now 5 |
//! | `counters` | version byte 1; next position, next stream id, applied log entries, each u64 big-endian |
//! | `ids_before` | position u64 big-endian: events before it have their ids in family `event_id` |
//! | `last_applied` | log id of the last applied entry, encoded by the caller |
//! | `membership` | membership as of that entry, encoded by the caller |
//! | `cluster_version` | the cluster version in force, u32 big-endian; absent before one was raised |
//!
//! A cluster version that changes other rows raises `format` in the batch that puts the version in
//! force, and not when a database is opened: until then an older program may open it again
//! (docs/adr/0027-cluster-version.md).

use super::ReadError;
use crate::event::Position;

/// Version of all encodings together. Version 1 has no row `ids_before`, and all ids in their
/// family; before version 3, rows of `index` end after the size. Version 4 has the rows of version
/// 3: it keeps programs away that would apply a delete without `keeps_access_list`. Version 5 adds
/// the families `hole` and `forgotten`: positions and index rows may be missing.
pub(crate) const FORMAT_VERSION: u32 = 5;
/// The version from which on events may have been removed.
pub(crate) const FIRST_FORMAT_WITH_HOLES: u32 = 5;
/// The oldest version that can be opened; it becomes the newest one then, and its rows stay as they
/// are.
pub(crate) const OLDEST_FORMAT_VERSION: u32 = 1;

/// Key of the format version.
pub(crate) const FORMAT: &[u8] = b"format";
/// Key of [`Counters`].
pub(crate) const COUNTERS: &[u8] = b"counters";
/// Key of the position before which all ids are in their family.
pub(crate) const IDS_BEFORE: &[u8] = b"ids_before";
/// Key of the applied log id.
pub(crate) const LAST_APPLIED: &[u8] = b"last_applied";
/// Key of the membership.
pub(crate) const MEMBERSHIP: &[u8] = b"membership";

/// Key of the cluster version in force.
pub(crate) const CLUSTER_VERSION: &[u8] = b"cluster_version";

const COUNTERS_VERSION: u8 = 1;
const COUNTERS_BYTES: usize = 25;

/// Counters over all streams. Equal on every node after the same entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// Position of the next event.
    pub(crate) next_position: Position,
    /// Id of the next new stream.
    pub(crate) next_stream_id: u64,
    /// Number of log entries applied.
    pub(crate) log_entries: u64,
}

impl Counters {
    /// Value of the row.
    pub(crate) fn encode(&self) -> [u8; COUNTERS_BYTES] {
        let mut value = [COUNTERS_VERSION; COUNTERS_BYTES];
        value[1..9].copy_from_slice(&self.next_position.to_be_bytes());
        value[9..17].copy_from_slice(&self.next_stream_id.to_be_bytes());
        value[17..].copy_from_slice(&self.log_entries.to_be_bytes());
        value
    }

    /// Reads the value of the row.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, ReadError> {
        if value.len() != COUNTERS_BYTES || value[0] != COUNTERS_VERSION {
            return Err(ReadError::Damaged("family system: row 'counters' has an unknown encoding".into()));
        }
        let number = |at: usize| value[at..at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Ok(Self { next_position: number(1), next_stream_id: number(9), log_entries: number(17) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counters_round_trip(next_position: u64, next_stream_id: u64, log_entries: u64) {
            let counters = Counters { next_position, next_stream_id, log_entries };
            prop_assert_eq!(Counters::decode(&counters.encode()).unwrap(), counters);
        }
    }

    #[test]
    fn an_unknown_encoding_is_damage() {
        assert!(Counters::decode(&[1; 24]).is_err());
        assert!(Counters::decode(&[2; 25]).is_err());
    }
}
