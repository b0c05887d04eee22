//! What all members of a cluster can apply (docs/adr/0027-cluster-version.md).

/// The version of a cluster: a number that never goes down. What a version adds is used only once
/// the version is in force, which it is when every member can apply it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterVersion(pub(crate) u32);

impl ClusterVersion {
    /// That of Headwater 0.1.0, which had no name for it. Every cluster begins with it.
    pub(crate) const FIRST: Self = Self(1);
    /// Changes of the members while the cluster runs (docs/adr/0024), and versions by the log.
    pub(crate) const MEMBER_CHANGES: Self = Self(2);
    /// The newest one that this program can apply.
    pub(crate) const NEWEST: Self = Self::MEMBER_CHANGES;

    /// The newest one that a node may apply whose operator has set a limit.
    pub(crate) fn newest_within(limit: Option<u32>) -> Self {
        limit.map_or(Self::NEWEST, |limit| Self(limit).clamp(Self::FIRST, Self::NEWEST))
    }

    /// A version as other nodes report it: [`Self::FIRST`] if they do not know that there are any.
    pub(crate) fn reported(number: u32) -> Self {
        Self(number).max(Self::FIRST)
    }

    /// What this version adds, for operators.
    pub(crate) fn adds(self) -> &'static str {
        match self {
            Self::MEMBER_CHANGES => "changes of the members while the cluster runs",
            _ => "what Headwater 0.1.0 knows",
        }
    }

    /// The versions above this one that this program can apply.
    pub(crate) fn above(self) -> impl Iterator<Item = Self> {
        (self.0 + 1..=Self::NEWEST.0).map(Self)
    }
}

impl std::fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_says_what_it_adds() {
        let above: Vec<_> = ClusterVersion::FIRST.above().collect();
        assert_eq!(above.last(), Some(&ClusterVersion::NEWEST));
        assert!(above.iter().all(|version| version.adds() != ClusterVersion::FIRST.adds()));
    }

    #[test]
    fn a_node_that_reports_no_version_can_apply_the_first() {
        assert_eq!(ClusterVersion::reported(0), ClusterVersion::FIRST);
        assert_eq!(ClusterVersion::reported(7), ClusterVersion(7));
    }
}
