//! Keys of the log database. Consensus encodes the values of the last three small ones.

/// An entry: its index, big-endian, so that RocksDB's order is the log's order.
pub(crate) fn entry(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// The reverse of [`entry`]; `None` for a key of another length.
pub(crate) fn index(key: &[u8]) -> Option<u64> {
    key.try_into().map(u64::from_be_bytes).ok()
}

/// Small value: index of the first entry of the log, u64 big-endian. Anything before it is garbage.
pub(crate) const FIRST: &str = "log-first";
/// Small value: the vote, by the name under which consensus stores it.
pub(crate) const VOTE: &str = "vote";
/// Small value: id of the last entry known to be committed, a hint.
pub(crate) const COMMITTED: &str = "committed";
/// Small value: id of the last entry purged.
pub(crate) const LAST_PURGED: &str = "last-purged";
/// Small value: version of this layout, one byte.
pub(crate) const FORMAT: &str = "log-format";
/// The newest version of it, which this program reads and writes. In this version a small value
/// says which [cluster version](CLUSTER_VERSION) a program must know, so that a program which knows
/// neither refuses the log.
pub(crate) const FORMAT_VERSION: u8 = 2;
/// The version without that value: entries of the first cluster version only.
pub(crate) const FIRST_FORMAT_VERSION: u8 = 1;
/// Small value: the cluster version that a program has to know, u32 big-endian.
pub(crate) const CLUSTER_VERSION: &str = "cluster-version";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_sort_like_indexes(a: u64, b: u64) {
            prop_assert_eq!(entry(a).cmp(&entry(b)), a.cmp(&b));
            prop_assert_eq!(index(&entry(a)), Some(a));
        }
    }
}
