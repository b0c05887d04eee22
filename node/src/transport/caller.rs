//! The caller and the target of a call between nodes: the metadata of the call, and its check
//! against the certificate of the connection.
//!
//! A call that reaches the wrong process (a reused address, a restored machine, two clusters on one
//! network) must be refused: an append from a foreign leader would rewrite the log.

use parking_lot::RwLock;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Status};

use super::listener::Proven;
use super::node::NodeId;

/// Metadata key: the cluster, 32 hexadecimal digits.
pub(crate) const CLUSTER: &str = "headwater-cluster";
/// Metadata key: the caller's node id, decimal.
pub(crate) const FROM: &str = "headwater-from";
/// Metadata key: the node id the caller means to reach, decimal.
pub(crate) const TO: &str = "headwater-to";

/// 16 random bytes chosen by the founder.
pub(crate) type ClusterId = [u8; 16];

/// The identity of this node, to stamp its calls and to check those of others.
#[derive(Debug)]
pub(crate) struct LocalIdentity {
    node_id: NodeId,
    /// The cluster and its metadata text; absent until this node is part of one.
    cluster: RwLock<Option<(ClusterId, AsciiMetadataValue)>>,
    /// Metadata text of `node_id`.
    from: AsciiMetadataValue,
}

impl LocalIdentity {
    /// The identity in the data directory.
    pub(crate) fn new(node_id: NodeId, cluster_id: Option<ClusterId>) -> Self {
        let identity = Self { node_id, cluster: RwLock::new(None), from: AsciiMetadataValue::from(node_id.0) };
        if let Some(cluster_id) = cluster_id {
            identity.set_cluster_id(cluster_id);
        }
        identity
    }

    /// The id of this node.
    pub(crate) fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The cluster this node is part of.
    pub(crate) fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster.read().as_ref().map(|(id, _)| *id)
    }

    /// Makes this node part of a cluster. The caller has stored the id durably before.
    pub(crate) fn set_cluster_id(&self, cluster_id: ClusterId) {
        let hex = format!("{:032x}", u128::from_be_bytes(cluster_id));
        if let Ok(text) = AsciiMetadataValue::try_from(hex) {
            *self.cluster.write() = Some((cluster_id, text));
        }
    }

    /// Puts the three keys on a call to `target`; refused while this node is not part of a cluster.
    pub(crate) fn stamp(&self, target: NodeId, metadata: &mut MetadataMap) -> Result<(), Status> {
        let Some(cluster) = self.cluster.read().as_ref().map(|(_, text)| text.clone()) else {
            return Err(Status::failed_precondition("this node is not part of a cluster yet"));
        };
        metadata.insert(CLUSTER, cluster);
        metadata.insert(FROM, self.from.clone());
        metadata.insert(TO, AsciiMetadataValue::from(target.0));
        Ok(())
    }

    /// Checks an incoming call and returns its caller. FAILED_PRECONDITION with a sentence when the
    /// call was not meant for this node, or when the certificate of the connection belongs to
    /// another server than the caller claims to be.
    pub(crate) fn check<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let from = self.check_metadata(request.metadata())?;
        check_proven(request, from.server())?;
        Ok(from)
    }

    fn check_metadata(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        {
            let cluster = self.cluster.read();
            let Some((_, own)) = cluster.as_ref() else {
                let (node, server) = (self.node_id, self.node_id.server());
                return Err(Status::failed_precondition(format!(
                    "node {node} has an empty disk and no cluster; if the disk of server {server} was lost, start it once with --rejoin"
                )));
            };
            if metadata.get(CLUSTER) != Some(own) {
                return Err(Status::failed_precondition(format!("node {} belongs to another cluster", self.node_id)));
            }
        }
        let to = node_id(metadata, TO)?;
        if to != self.node_id {
            return Err(Status::failed_precondition(format!("this is node {}, not {to}", self.node_id)));
        }
        node_id(metadata, FROM)
    }
}

/// Refuses a call in the name of `server` over a connection whose certificate belongs to another
/// server.
pub(crate) fn check_proven<T>(request: &Request<T>, server: u16) -> Result<(), Status> {
    match proven(request) {
        Some(proven) if proven != server => Err(Status::failed_precondition(format!(
            "the call is in the name of server {server}, but the certificate of the connection is that of server {proven}"
        ))),
        _ => Ok(()),
    }
}

/// The server at the other end, as its certificate proves; `None` without TLS.
pub(crate) fn proven<T>(request: &Request<T>) -> Option<u16> {
    request.extensions().get::<Proven>().and_then(|proven| proven.0)
}

fn node_id(metadata: &MetadataMap, key: &'static str) -> Result<NodeId, Status> {
    let text = metadata.get(key).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok())
        .map(NodeId)
        .ok_or_else(|| Status::failed_precondition(format!("the call lacks a valid `{key}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ClusterId = [1; 16];

    fn call(from: u64, to: u64, cluster: ClusterId) -> Request<()> {
        let mut request = Request::new(());
        LocalIdentity::new(NodeId(from), Some(cluster)).stamp(NodeId(to), request.metadata_mut()).unwrap();
        request
    }

    #[test]
    fn a_call_for_this_node_is_accepted() {
        let local = LocalIdentity::new(NodeId(2), Some(ONE));
        assert_eq!(local.check(&call(1, 2, ONE)).unwrap(), NodeId(1));
    }

    #[test]
    fn a_call_for_another_node_or_cluster_is_refused() {
        let local = LocalIdentity::new(NodeId(2), Some(ONE));
        for request in [call(1, 3, ONE), call(1, 2, [2; 16]), Request::new(())] {
            assert_eq!(local.check(&request).unwrap_err().code(), tonic::Code::FailedPrecondition);
        }
    }

    #[test]
    fn a_call_in_the_name_of_another_server_than_the_certificate_proves_is_refused() {
        let local = LocalIdentity::new(NodeId(2), Some(ONE));
        let (node, server) = (NodeId::generate(7), 7);
        for (proven, accepted) in [(None, true), (Some(server), true), (Some(2), false), (Some(8), false)] {
            let mut request = call(node.0, 2, ONE);
            request.extensions_mut().insert(Proven(proven));
            assert_eq!(local.check(&request).is_ok(), accepted, "{proven:?}");
        }
    }

    #[test]
    fn a_node_without_a_cluster_neither_calls_nor_answers() {
        let local = LocalIdentity::new(NodeId(2), None);
        assert!(local.check(&call(1, 2, ONE)).is_err());
        assert!(local.stamp(NodeId(1), &mut MetadataMap::new()).is_err());
        local.set_cluster_id(ONE);
        assert!(local.check(&call(1, 2, ONE)).is_ok());
    }
}
