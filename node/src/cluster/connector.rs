//! Connections to other nodes outside consensus: one channel per address, shared by status,
//! founding and forwarding.

use std::collections::HashMap;
use std::sync::Arc;

use headwater_proto::cluster::cluster_client::ClusterClient;
use parking_lot::Mutex;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::transport::{Dial, Dialer, LocalIdentity, MAX_MESSAGE_BYTES, Member, NodeId, Resolve, Traffic};

/// Makes clients for peers and marks every call with this node's identity. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Arc<LocalIdentity>,
    dialer: Dialer,
    resolve: Resolve,
    /// By server and `host:port`. Bounded by the number of addresses that the member list has named
    /// in the life of this process.
    channels: Mutex<HashMap<(u16, String), Channel>>,
}

impl Connector {
    /// Calls as `identity` over connections of `dialer`; `resolve` gives the address to use for a
    /// member.
    pub(crate) fn new(identity: Arc<LocalIdentity>, dialer: Dialer, resolve: Resolve) -> Self {
        Self { inner: Arc::new(Inner { identity, dialer, resolve, channels: Mutex::default() }) }
    }

    /// The addresses of a member: the configured ones take precedence over the replicated member
    /// list.
    pub(crate) fn addresses(&self, node_id: NodeId, member: &Member) -> Member {
        (self.inner.resolve)(node_id, member)
    }

    /// Counts the traffic between nodes.
    pub(crate) fn traffic(&self) -> &Traffic {
        self.inner.dialer.traffic()
    }

    /// A client for the node of `server` at `raft_address`; it connects when first used. With TLS
    /// the connection fails unless that server is at the other end.
    pub(crate) fn client(&self, server: u16, raft_address: &str) -> Result<ClusterClient<Channel>, Status> {
        let mut channels = self.inner.channels.lock();
        let key = (server, raft_address.to_owned());
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                let channel = self
                    .inner
                    .dialer
                    .channel(server, raft_address)
                    .map_err(|error| Status::invalid_argument(format!("address {raft_address}: {error}")))?;
                channels.insert(key, channel.clone());
                channel
            }
        };
        Ok(ClusterClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// A call to `target`, marked with its caller and its target.
    pub(crate) fn request<T>(&self, target: NodeId, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        self.inner.identity.stamp(target, request.metadata_mut())?;
        Ok(request)
    }

    /// Refuses a call that was not meant for this node.
    pub(crate) fn check_caller<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        self.inner.identity.check(request)
    }
}
