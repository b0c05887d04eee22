//! The version of the cluster: what is in force, and what later versions wait for
//! (docs/adr/0027-cluster-version.md).

use std::sync::Arc;

use headwater_proto::cluster as wire;
use tonic::Status;

use super::own_membership::OwnMembership;
use super::status::peers::Peers;
use crate::event::ClusterVersion;
use crate::raft::{Consensus, LogPromise};
use crate::store::Store;
use crate::transport::{Member, NodeId};

/// A member that a later version waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Laggard {
    /// The member.
    pub(crate) server: u16,
    /// What it can apply; `None` if it does not answer.
    pub(crate) newest: Option<ClusterVersion>,
}

impl std::fmt::Display for Laggard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.newest {
            Some(newest) => write!(f, "server {} knows none beyond {newest}", self.server),
            None => write!(f, "server {} does not answer", self.server),
        }
    }
}

/// A version that is not in force, although this node can apply it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gated {
    /// The version.
    pub(crate) version: ClusterVersion,
    /// The members it waits for; empty when it is about to be put in force.
    pub(crate) waits_for: Vec<Laggard>,
}

/// Knows the version in force and those of the members.
pub(crate) struct Versions {
    /// The newest version that this node may apply.
    newest: ClusterVersion,
    membership: Arc<OwnMembership>,
    consensus: Consensus,
    store: Store,
    peers: Peers,
    promise: LogPromise,
}

impl Versions {
    /// Of a node whose operator has perhaps set a limit.
    pub(super) fn new(
        limit: Option<u32>,
        membership: Arc<OwnMembership>,
        consensus: Consensus,
        store: Store,
        peers: Peers,
        promise: LogPromise,
    ) -> Self {
        Self { newest: ClusterVersion::newest_within(limit), membership, consensus, store, peers, promise }
    }

    /// The version in force, as far as this node has applied the log.
    pub(crate) fn in_force(&self) -> ClusterVersion {
        self.store.cluster_version()
    }

    /// The newest version that this node can apply.
    pub(crate) fn newest(&self) -> ClusterVersion {
        self.newest
    }

    /// The version that this disk has promised.
    pub(crate) fn promised(&self) -> ClusterVersion {
        self.promise.version()
    }

    /// Refuses what needs a version that is not in force, and says what that waits for.
    pub(crate) fn check(&self, needed: ClusterVersion) -> Result<(), String> {
        let in_force = self.in_force();
        if needed <= in_force {
            return Ok(());
        }
        let waits_for: Vec<String> = self.waits_for(needed).iter().map(Laggard::to_string).collect();
        let why = if waits_for.is_empty() { "try again in a moment".to_owned() } else { waits_for.join(", ") };
        Err(format!("this needs cluster version {needed}, and version {in_force} is in force: {why}"))
    }

    /// The versions that are not in force yet, lowest first.
    pub(crate) fn gated(&self) -> Vec<Gated> {
        let above = self.in_force().above();
        above.map(|version| Gated { version, waits_for: self.waits_for(version) }).collect()
    }

    /// Refuses a node that cannot apply what is in force.
    pub(crate) fn check_newcomer(&self, server: u16, newest: ClusterVersion) -> Result<(), String> {
        let in_force = self.in_force();
        if newest >= in_force {
            return Ok(());
        }
        Err(format!(
            "server {server} knows no cluster version beyond {newest}, and version {in_force} is in force: start a newer \
             version of Headwater there"
        ))
    }

    /// Refuses to become a member of a cluster that has gone on to a version which this node cannot
    /// apply.
    pub(crate) fn check_cluster(&self, in_force: ClusterVersion) -> Result<(), String> {
        if in_force <= self.newest {
            return Ok(());
        }
        Err(format!(
            "cluster version {in_force} is in force there, and this node knows none beyond {}: start a newer version of \
             Headwater, or raise --max-cluster-version",
            self.newest
        ))
    }

    /// Programs that cannot apply this version refuse this disk from now on.
    pub(super) async fn promise(&self, version: ClusterVersion) {
        self.promise.raise(version).await;
    }

    /// The answer to a cluster that takes this node in: the programs that cannot apply its version
    /// refuse this disk from now on.
    pub(crate) async fn promise_to_join(&self, in_force: ClusterVersion) -> Result<(), Status> {
        self.check_cluster(in_force).map_err(Status::failed_precondition)?;
        self.promise.raise(in_force).await;
        Ok(())
    }

    fn waits_for(&self, version: ClusterVersion) -> Vec<Laggard> {
        let members = self.consensus.seen().members;
        let of_member = |(id, _): (NodeId, &Member)| {
            let newest = self.reported(id).map(|reported| reported.newest);
            (newest < Some(version)).then_some(Laggard { server: id.server(), newest })
        };
        members.all().filter_map(of_member).collect()
    }

    /// What a member reports; `None` if it does not answer.
    fn reported(&self, id: NodeId) -> Option<Reported> {
        if id == self.membership.node_id() {
            return Some(Reported { newest: self.newest, promised: self.promised() });
        }
        self.peers.heard_of(id).filter(|heard| heard.is_alive()).map(|heard| Reported::of(&heard.status))
    }

    /// The lowest of all members; `None` unless this node is one of them and all answer.
    pub(super) fn lowest(&self) -> Option<Reported> {
        let members = self.consensus.seen().members;
        members.addresses(self.membership.node_id())?;
        let all: Option<Vec<Reported>> = members.all().map(|(id, _)| self.reported(id)).collect();
        all?.into_iter().reduce(Reported::lower)
    }
}

/// What a member says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported {
    /// The newest version that it can apply.
    pub(super) newest: ClusterVersion,
    /// The version that its disk has promised.
    pub(super) promised: ClusterVersion,
}

impl Reported {
    fn of(status: &wire::StatusResponse) -> Self {
        let newest = ClusterVersion::reported(status.newest_cluster_version);
        Self { newest, promised: ClusterVersion::reported(status.promised_cluster_version) }
    }

    fn lower(self, other: Self) -> Self {
        Self { newest: self.newest.min(other.newest), promised: self.promised.min(other.promised) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_says_nothing_of_versions_counts_as_one_of_the_first() {
        let first = Reported { newest: ClusterVersion::FIRST, promised: ClusterVersion::FIRST };
        assert_eq!(Reported::of(&wire::StatusResponse::default()), first);
    }

    #[test]
    fn the_lowest_counts_in_each_respect() {
        let of = |newest, promised| Reported { newest: ClusterVersion(newest), promised: ClusterVersion(promised) };
        assert_eq!(of(3, 1).lower(of(2, 2)), of(2, 1));
    }

    #[test]
    fn a_member_that_is_waited_for_is_named_with_what_it_knows() {
        let old = Laggard { server: 3, newest: Some(ClusterVersion(1)) };
        assert_eq!(old.to_string(), "server 3 knows none beyond 1");
        assert_eq!(Laggard { newest: None, ..old }.to_string(), "server 3 does not answer");
    }
}
