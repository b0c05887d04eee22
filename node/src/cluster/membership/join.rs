//! Asking a server to become part of a cluster: of one that is being founded or restored, or of one
//! that runs.

use std::time::Duration;

use bytes::Bytes;
use headwater_proto::cluster as wire;
use tokio::time::timeout;
use uuid::Uuid;

use crate::cluster::connector::Connector;
use crate::cluster::status::peers::reason_of;
use crate::config::MemberConfig;
use crate::event::ClusterVersion;
use crate::transport::NodeId;

/// How long a server may take to agree.
const JOIN_DEADLINE: Duration = Duration::from_secs(5);

/// What a server is asked to be part of.
pub(super) enum Invitation {
    /// A cluster that servers of equal lists form.
    ToListed {
        /// The list of this node.
        canonical_list: String,
        /// The backup that this node was restored from; empty if it was not, or alone.
        restored_backup: Bytes,
    },
    /// A cluster that runs. It has members, and lists no longer count.
    ToRunning,
}

/// Makes a server accept the log of this cluster, in which this version is in force.
///
/// # Errors
/// Why it does not, in a sentence; or it is not the node any more that was asked before.
pub(super) async fn join(
    connector: &Connector,
    server: &MemberConfig,
    node_id: NodeId,
    cluster_id: Uuid,
    version: ClusterVersion,
    invitation: Invitation,
) -> Result<(), String> {
    let to_running_cluster = matches!(invitation, Invitation::ToRunning);
    let (configured_members, restored_backup) = match invitation {
        Invitation::ToListed { canonical_list, restored_backup } => (canonical_list, restored_backup),
        Invitation::ToRunning => (String::new(), Bytes::new()),
    };
    let cluster_id = cluster_id.as_bytes().to_vec().into();
    let cluster_version = version.0;
    let request =
        wire::JoinRequest { cluster_id, configured_members, to_running_cluster, restored_backup, cluster_version };
    let refused = |status: tonic::Status| format!("server {} refuses: {}", server.id, reason_of(&status));
    let mut client = connector.client(server.id, &server.raft_address).map_err(refused)?;
    let answer = timeout(JOIN_DEADLINE, client.join(request)).await;
    let silent = |_| format!("server {} does not answer at {}: it is silent", server.id, server.raft_address);
    if answer.map_err(silent)?.map_err(refused)?.into_inner().node_id == node_id.0 {
        Ok(())
    } else {
        Err(format!("server {} was replaced while it joined", server.id))
    }
}
