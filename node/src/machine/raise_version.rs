//! Putting a cluster version in force (docs/adr/0027-cluster-version.md).

use headwater_proto::stored::RaiseVersion;

use super::state::{Batch, Damaged};
use crate::event::{ClusterVersion, WriteOutcome};

/// Versions never go down. A node that cannot apply the version must not go on: it would decide
/// otherwise than the others from here on. Its disk refuses such programs, so this is the last line
/// of defence.
pub(super) fn apply<S: Batch>(state: &mut S, command: &RaiseVersion) -> Result<WriteOutcome, S::Error> {
    let version = ClusterVersion::reported(command.version);
    if version > ClusterVersion::NEWEST {
        let newest = ClusterVersion::NEWEST;
        let reason = format!("the cluster has version {version}, and this program knows none beyond {newest}");
        return Err(Damaged(reason).into());
    }
    if version > state.cluster_version() {
        state.raise_cluster_version(version);
    }
    Ok(WriteOutcome::VersionRaised { version: state.cluster_version() })
}
